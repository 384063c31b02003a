"""What the executor does with jobs that the queue forgot, and with a silent SLURM."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from programs import write_program
from snakemake_interface_common.exceptions import WorkflowError

import snakemake_executor_plugin_vrp_slurm as plugin
from snakemake_executor_plugin_vrp_slurm.queue import QueueSilentError, ask, states
from snakemake_executor_plugin_vrp_slurm.site import Site
from snakemake_executor_plugin_vrp_slurm.submissions import identity, note, note_id, noted
from snakemake_executor_plugin_vrp_slurm.verdicts import JobState, Verdicts


class Now:
    """A rate limiter that limits nothing."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: Any) -> None: ...


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.warning = self.error = self.lines.append


@pytest.fixture
def executor(tmp_path, monkeypatch) -> Any:
    """An executor without a workflow; verdicts without patience."""
    monkeypatch.chdir(tmp_path)
    made = plugin.Executor.__new__(plugin.Executor)
    made.workflow = SimpleNamespace(
        executor_settings=plugin.ExecutorSettings(silence_minutes=0.5, keep_successful_logs=True)
    )
    made.logger, made.status_rate_limiter = Logger(), Now()
    made.run_uuid, made._accounting = "run", False
    made._verdicts = Verdicts(blocked_limit=0, settle=0)
    made._silent_since, made._said = None, (0.0, "")
    made._nodes, made._thread, made._site, made.wait = {}, threading.local(), Site(), True
    made.slurm_logdir = tmp_path / "logs"
    made.ended = {}
    made.report_job_success = lambda info: made.ended.update({info.external_jobid: "success"})
    made.report_job_error = lambda info, msg, aux_logs: made.ended.update(
        {info.external_jobid: msg}
    )
    return made


def job(identifier: str, output: str = "table.parquet") -> Any:
    return SimpleNamespace(
        external_jobid=identifier,
        aux={},
        job=SimpleNamespace(
            name="extract",
            rule=SimpleNamespace(name="extract"),
            wildcards={},
            input=[],
            output=[output],
            is_group=lambda: False,
            resources={},
        ),
    )


def submit(job: Any, identifier: str, run: str = "run") -> None:
    note(job, run)
    note_id(job, identifier)


def check(executor: Any, *jobs: Any) -> list[str]:
    async def collect() -> list[str]:
        return [info.external_jobid async for info in executor.check_active_jobs(list(jobs))]

    return asyncio.run(collect())


def test_states_decide(executor, monkeypatch):
    shown = {
        "1": JobState("RUNNING", "None"),
        "2": JobState("COMPLETED", "None"),
        "3": JobState("FAILED", "NonZeroExitCode"),
    }
    monkeypatch.setattr(plugin.queue, "states", lambda run: shown)
    assert check(executor, *map(job, "123")) == ["1"]
    assert executor.ended["2"] == "success"
    assert "ended as FAILED" in executor.ended["3"]
    assert executor.logger.lines == ["SLURM: 1 completed, 1 failed, 1 running"]


def finish(output: str, time: float = 2e9) -> None:
    Path(output).touch()
    os.utime(output, (time, time))


def test_a_forgotten_job_is_judged_by_its_tables(executor, monkeypatch):
    monkeypatch.setattr(plugin.queue, "states", lambda run: {})
    there, absent, stale = job("1", "there"), job("2", "absent"), job("3", "stale")
    finish("stale", time=0)
    for info in (there, absent, stale):
        submit(info.job, info.external_jobid)
    finish("there")
    assert check(executor, there, absent, stale) == []
    assert executor.ended["1"] == "success"
    assert "no longer knows job 2" in executor.ended["2"]
    assert "no longer knows job 3" in executor.ended["3"]  # its output is an earlier job's


def test_a_forgotten_group_is_judged_by_the_tables_of_all_its_jobs(executor, monkeypatch):
    monkeypatch.setattr(plugin.queue, "states", lambda run: {})
    metrics, probes = job("", "signals").job, job("", "probes").job
    # Of a group, Snakemake calls outputs only what none of its own jobs reads.
    group = SimpleNamespace(
        output=["probes"], jobs=[metrics, probes], is_group=lambda: True, resources={}
    )
    info = SimpleNamespace(external_jobid="1", aux={}, job=group)
    submit(group, "1")
    finish("probes")
    assert check(executor, info) == []
    assert "no longer knows job 1" in executor.ended["1"]
    finish("signals")
    check(executor, info)
    assert executor.ended["1"] == "success"


@pytest.mark.parametrize(
    ("state", "outcome"), [("COMPLETED", "success"), ("TIMEOUT", "ended as TIMEOUT")]
)
def test_a_forgotten_job_is_judged_by_the_accounting(executor, monkeypatch, state, outcome):
    executor._accounting = True
    monkeypatch.setattr(plugin.queue, "states", lambda run: {})
    monkeypatch.setattr(plugin.queue, "accounted", lambda job: JobState(state, ""))
    assert check(executor, job("1")) == []
    assert outcome in executor.ended["1"]


def test_no_job_is_dropped_while_slurm_is_silent(executor, monkeypatch):
    def silent(run: str) -> Any:
        raise QueueSilentError("squeue: Unable to contact slurm controller")

    monkeypatch.setattr(plugin.queue, "states", silent)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(plugin.time, "monotonic", lambda: clock.now)
    assert check(executor, job("1"), job("2")) == ["1", "2"]
    clock.now = 29
    assert check(executor, job("1"), job("2")) == ["1", "2"]
    clock.now = 30
    with pytest.raises(WorkflowError, match=r"not answered for 30 s .* Jobs 1 2 may still run"):
        check(executor, job("1"), job("2"))


def test_an_answer_ends_the_silence(executor, monkeypatch):
    executor._silent_since = -1e9
    monkeypatch.setattr(plugin.queue, "states", lambda run: {"1": JobState("RUNNING", "None")})
    assert check(executor, job("1")) == ["1"]
    assert executor._silent_since is None


def test_without_jobs_nothing_is_asked(executor, monkeypatch):
    monkeypatch.setattr(plugin.queue, "states", lambda run: pytest.fail("asked"))
    assert check(executor) == []


def test_a_blocked_job_is_cancelled(executor, monkeypatch):
    cancelled: list[str] = []
    monkeypatch.setattr(
        plugin.queue, "states", lambda run: {"1": JobState("PENDING", "PartitionDown")}
    )
    monkeypatch.setattr(plugin.queue, "cancel", cancelled.extend)
    assert check(executor, job("1")) == []
    assert cancelled == ["1"]
    assert "partition is down" in executor.ended["1"]


@pytest.mark.parametrize(("nodes", "waits"), [(True, ["1"]), (False, [])])
def test_busy_nodes_are_waited_for(executor, monkeypatch, nodes, waits):
    asked: list[tuple[str, bool]] = []
    shown = {"1": JobState("PENDING", "ReqNodeNotAvail, May be reserved for other job", "gpu")}
    monkeypatch.setattr(plugin.queue, "states", lambda run: shown)
    monkeypatch.setattr(plugin.queue, "cancel", lambda jobs: None)
    monkeypatch.setattr(
        plugin.queue, "has_nodes", lambda place, *, gpu: asked.append((place, gpu)) or nodes
    )
    assert check(executor, job("1")) == waits
    assert asked == [("gpu", False)]


@pytest.fixture
def clock(executor, monkeypatch) -> Any:
    """Time that passes only in sleep; thirty seconds of it are silence."""
    its = SimpleNamespace(now=0.0, slept=[])

    def sleep(seconds: float) -> None:
        its.now += seconds
        its.slept.append(seconds)

    monkeypatch.setattr(plugin.time, "monotonic", lambda: its.now)
    monkeypatch.setattr(plugin.time, "sleep", sleep)
    return its


class Sbatch:
    """Stands in for the submission of the executor beneath: fails so often, then succeeds."""

    def __init__(self, executor: Any, monkeypatch: Any, *failures: str) -> None:
        self.failures, self.calls = list(failures), 0
        self.submitted: list[str] = []
        self.known_before: list[Any] = []
        self.failed: list[str] = []

        def run_job(its: Any, job: Any) -> None:
            self.calls += 1
            self.known_before.append(noted(job))
            info = plugin.SubmittedJobInfo(job, external_jobid="7", aux={})
            if self.failures:
                said = f"SLURM sbatch failed. The error message was '{self.failures.pop(0)}'."
                its._report_job_error_threadsafe(info, f"{said}\n    sbatch call:\n  try again")
            else:
                its._report_job_submission_threadsafe(info)

        base = plugin.SlurmExecutor
        monkeypatch.setattr(base, "run_job", run_job)
        monkeypatch.setattr(
            base, "_report_job_submission_threadsafe",
            lambda its, info: self.submitted.append(info.external_jobid),
        )  # fmt: skip
        monkeypatch.setattr(
            base, "_report_job_error_threadsafe", lambda its, info, text: self.failed.append(text)
        )


AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"


def test_a_submission_is_repeated_while_slurm_is_away(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, AWAY, "Socket timed out on send/recv operation")
    monkeypatch.setattr(plugin.queue, "unfinished_with", lambda comment, run: [])
    its = job("").job
    executor.run_job(its)
    assert (sbatch.calls, sbatch.submitted, sbatch.failed) == (3, ["7"], [])
    assert clock.slept == [2, 4]
    assert noted(its).job == "7"
    # A run that is killed in between leaves word of the job, and of when it was submitted.
    assert [(known.job, known.run) for known in sbatch.known_before] == [("", "run")] * 3
    assert noted(its).time == sbatch.known_before[0].time


def test_an_sbatch_without_an_answer_is_a_silence(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "")  # what is left of one that was ended
    monkeypatch.setattr(plugin.queue, "unfinished_with", lambda comment, run: [])
    executor.run_job(job("").job)
    assert (sbatch.calls, sbatch.submitted) == (2, ["7"])
    assert "It did not answer within 60 s. Trying again" in executor.logger.lines[0]


def test_a_submission_that_slurm_took_all_the_same_is_not_repeated(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, AWAY)
    its = job("").job
    asked: list[str] = []
    monkeypatch.setattr(
        plugin.queue, "unfinished_with", lambda comment, run: asked.append(comment) or ["12"]
    )
    executor.run_job(its)
    assert (sbatch.calls, sbatch.submitted, sbatch.failed) == (1, ["12"], [])
    assert asked == [identity(its)]
    assert f"--comment='extract {identity(its)}'" in next(executor.get_account_arg(its))


def test_a_submission_that_is_refused_is_not_repeated(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "invalid partition specified: nowhere")
    executor.run_job(job("").job)
    assert (sbatch.calls, clock.slept) == (1, [])
    assert "nowhere" in sbatch.failed[0]


def test_submissions_end_after_the_limit_of_silence(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, *[AWAY] * 99)
    monkeypatch.setattr(plugin.queue, "unfinished_with", lambda comment, run: [])
    executor.run_job(job("").job)
    assert clock.now <= 30
    assert sbatch.calls == 5  # after 0, 2, 6, 14 and 30 s
    assert len(sbatch.failed) == 1


FULL = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(("room_after", "submitted"), [(99, ["7"]), (0, [])])
def test_a_full_queue_is_waited_for_while_own_jobs_are_in_it(
    executor, monkeypatch, clock, room_after, submitted
):
    sbatch = Sbatch(executor, monkeypatch, *[FULL] * 9)
    monkeypatch.setattr(plugin.queue, "unfinished_with", lambda comment, run: [])
    monkeypatch.setattr(plugin.queue, "holds_own_jobs", lambda: sbatch.calls <= room_after)
    executor.run_job(job("").job)
    assert sbatch.submitted == submitted
    if submitted:  # far beyond the limit of silence, and said once
        assert clock.now == 2 + 4 + 8 + 16 + 32 + 4 * 60
        (line,) = executor.logger.lines
        assert "QOSMaxSubmitJobPerUserLimit" in line
        assert "Waiting for room there" in line
    else:
        assert (sbatch.calls, clock.now) == (1, 0)  # nobody's end would make room
        assert "QOSMaxSubmitJobPerUserLimit" in sbatch.failed[0]


def test_the_end_of_own_jobs_ends_the_wait_for_room(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, *[FULL] * 99)
    monkeypatch.setattr(plugin.queue, "unfinished_with", lambda comment, run: [])
    monkeypatch.setattr(plugin.queue, "holds_own_jobs", lambda: sbatch.calls <= 4)
    executor.run_job(job("").job)
    assert len(sbatch.failed) == 1


def test_a_refused_group_says_why(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "Invalid account or account/partition combination")
    one = job("").job
    group = SimpleNamespace(
        output=["a"], jobs=[one], is_group=lambda: True, name="analysis", resources={}
    )
    executor.run_job(group)
    assert "Invalid account" in sbatch.failed[0]  # which Snakemake leaves out, of a group
    assert any("Invalid account" in line for line in executor.logger.lines)


@pytest.mark.parametrize(("run", "whose"), [("run", "earlier try"), ("old", "earlier run")])
def test_what_still_works_on_the_outputs_is_ended_first(executor, monkeypatch, clock, run, whose):
    sbatch = Sbatch(executor, monkeypatch)
    its = job("").job
    submit(its, "5", run)
    cancelled: list[str] = []

    def cancel(jobs: list[str]) -> str | None:  # the first one is not heard
        cancelled.extend(jobs)
        return "scancel: timed out" if len(cancelled) == 1 else None

    monkeypatch.setattr(plugin.queue, "cancel", cancel)
    monkeypatch.setattr(
        plugin.queue, "is_unfinished", lambda job, run: len(cancelled) < 2 or clock.now < 15
    )
    executor.run_job(its)
    assert cancelled == ["5", "5"]
    assert clock.now >= 15
    assert sbatch.submitted == ["7"]
    assert whose in executor.logger.lines[0]


def test_a_leftover_of_a_run_that_never_learnt_its_id(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch)
    its = job("").job
    note(its, "old")
    cancelled: list[str] = []
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        plugin.queue, "unfinished_with", lambda *about: asked.append(about) or ["9"]
    )
    monkeypatch.setattr(plugin.queue, "cancel", cancelled.extend)
    monkeypatch.setattr(plugin.queue, "is_unfinished", lambda job, run: not cancelled)
    executor.run_job(its)
    assert (asked, cancelled) == ([(identity(its), "old")], ["9"])
    assert sbatch.submitted == ["7"]


def test_a_leftover_that_does_not_end_is_an_error(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch)
    its = job("").job
    submit(its, "5")
    monkeypatch.setattr(plugin.queue, "cancel", lambda jobs: None)
    monkeypatch.setattr(plugin.queue, "is_unfinished", lambda job, run: True)
    executor.run_job(its)
    assert sbatch.calls == 0
    assert "SLURM job 5 of an earlier try does not end" in sbatch.failed[0]


def test_a_job_without_a_record_of_its_submission_is_not_taken_for_done(executor, monkeypatch):
    monkeypatch.setattr(plugin.queue, "states", lambda run: {})
    finish("table.parquet")
    check(executor, job("1"))
    assert "no longer knows job 1" in executor.ended["1"]


@pytest.mark.parametrize(
    ("resources", "added"),
    [
        ({"gpu": 2}, {"nodes": 1}),
        ({"gpu": 2, "nodes": 2}, {}),
        ({"gpu": 1}, {}),
        ({}, {}),
    ],
)
def test_several_gpus_are_asked_for_on_one_node(executor, resources, added):
    found: dict[str, int] = {}
    its = SimpleNamespace(resources=resources, add_aux_resource=found.__setitem__)
    executor._complete(its)
    assert found == added


@pytest.mark.parametrize(
    ("resources", "added"),
    [
        ({"gpu": 1}, {"gpu_model": "a100"}),
        ({"gpu": 1, "gpu_model": "h100"}, {}),
        ({"gpu": 0, "gres": "gpu:a100:1"}, {}),  # as sites want it that refuse `--gpus`
        ({"mem_mb": 1000}, {}),
    ],
)
def test_the_sites_gpu_type_is_asked_for(executor, resources, added):
    executor._site = Site(gpu_type="a100")
    found: dict[str, str] = {}
    executor._complete(SimpleNamespace(resources=resources, add_aux_resource=found.__setitem__))
    assert found == added


def test_account_quality_and_partition_are_the_sites_or_the_rules_own(executor, monkeypatch):
    def asked(command: str, *_: Any) -> str:
        raise AssertionError(f"{command} is asked without an end")

    monkeypatch.setattr(plugin.beneath, "validate_account", asked)
    executor._site = Site(account="a", gpu_account="b", qos="q", gpu_partition="gpu,more")
    its = job("").job
    assert next(executor.get_account_arg(its)).startswith(" -A a --qos=q --comment='extract ")
    its.resources = {"gpu": 1}
    assert next(executor.get_account_arg(its)).startswith(" -A b --qos=q --comment=")
    assert executor.get_partition_arg(its) == " -p gpu,more"
    its.resources = {"slurm_account": "their own"}
    assert next(executor.get_account_arg(its)).startswith(" -A 'their own' --qos=q --comment=")


def test_questions_have_an_end(monkeypatch):
    monkeypatch.setattr(plugin.queue, "PATIENCE", 0.2)
    with pytest.raises(QueueSilentError, match=r"sleep did not answer within 0\.2 s"):
        ask("sleep", "5")
    with pytest.raises(QueueSilentError, match="there is no no-such-command here"):
        ask("no-such-command")
    with pytest.raises(QueueSilentError, match="sh: down"):
        ask("sh", "-c", "echo down >&2; exit 1")


def test_states_are_read_with_their_reasons(monkeypatch):
    text = "1|RUNNING|cpu|None\n2|PENDING|gpu|ReqNodeNotAvail, UnavailableNodes:a\n"
    monkeypatch.setattr(plugin.queue, "ask", lambda *command: text)
    assert states("run") == {
        "1": JobState("RUNNING", "None", "cpu"),
        "2": JobState("PENDING", "ReqNodeNotAvail, UnavailableNodes:a", "gpu"),
    }


@pytest.mark.parametrize(
    ("text", "gpu", "found"),
    [
        ("drained|(null)\ndown*|gpu:1\n", False, False),
        ("idle*|(null)\n", False, False),
        ("draining|gpu:1\nallocated|(null)\n", False, True),
        ("draining|gpu:1\nallocated|(null)\n", True, False),
        ("reserved|gpu:a100:4(S:0-1)\n", True, True),
        ("idle~|gpu:1\n", True, True),
    ],
)
def test_nodes_in_service(monkeypatch, text, gpu, found):
    monkeypatch.setattr(plugin.queue, "ask", lambda *command: text)
    assert plugin.queue.has_nodes("main", gpu=gpu) is found


def test_jobs_are_found_by_their_comment(monkeypatch):
    text = "1|extract_one_000 abc\n2|metrics abd\n3|(null)\n"
    monkeypatch.setattr(plugin.queue, "ask", lambda *command: text)
    assert plugin.queue.unfinished_with("abd", "run") == ["2"]


PROGRAMS = {
    "sinfo": 'case "$*" in *%P*) echo "main*";; *) echo "main|gpu:4";; esac',
    "squeue": "true",
    "sacct": "exit 1",
    "scancel": "true",
}
WORKFLOW = """
rule work:
    output: "out.txt"
    group: "together"
    resources: mem_mb=100, runtime=5
    shell: "false"
"""


def run_with_sbatch(folder: Path, script: str) -> str:
    """Run a workflow of one group of one job on a cluster that the scripts pretend; it fails."""
    (folder / "Snakefile").write_text(WORKFLOW)
    for name, its in (PROGRAMS | {"sbatch": script}).items():
        write_program(folder / name, its)
    # The patience of the module, in a process of its own.
    start = (
        "import sys; from snakemake_executor_plugin_vrp_slurm import queue; queue.PATIENCE = 1; "
        "from snakemake.cli import main; main(sys.argv[1:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", start, "--executor", "vrp-slurm", "--jobs", "1",
         "--vrp-slurm-silence-minutes", "0.1"],
        cwd=folder, timeout=120, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
            "PATH": f"{folder}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(folder / "cache"),
        },
    )  # fmt: skip
    assert ended.returncode != 0
    return " ".join(ended.stdout.split())


@pytest.mark.slow
@pytest.mark.workflow
def test_an_sbatch_that_hangs_ends_the_run_in_bounded_time(tmp_path):
    said = run_with_sbatch(tmp_path, "exec sleep 1000")
    assert "SLURM sbatch failed. It did not answer within 1 s. Trying again in 2 s." in said
    assert said.count("It did not answer within 1 s") >= 2  # the last one is the error


@pytest.mark.slow
@pytest.mark.workflow
def test_snakemake_prints_why_a_group_is_refused(tmp_path):
    said = run_with_sbatch(tmp_path, "echo 'sbatch: error: Invalid account' >&2; exit 1")
    assert "sbatch: error: Invalid account" in said

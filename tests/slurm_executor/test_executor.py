"""What the executor does with jobs that the queue forgot, and with a silent SLURM."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from programs import write_program
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_vrp_slurm import ExecutorSettings, queue
from snakemake_executor_plugin_vrp_slurm import executor as executor_module
from snakemake_executor_plugin_vrp_slurm.executor import Executor
from snakemake_executor_plugin_vrp_slurm.job_states import JobState, StatePolicy
from snakemake_executor_plugin_vrp_slurm.queue import SlurmError, query, states
from snakemake_executor_plugin_vrp_slurm.site import Site
from snakemake_executor_plugin_vrp_slurm.submissions import (
    job_key,
    last_submission,
    pending_submissions,
    record_slurm_id,
    record_submission,
)


class Now:
    """A rate limiter that limits nothing."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: Any) -> None: ...


class Resources(dict[str, Any]):
    """Resources of a job, which Snakemake also shows as attributes."""

    __getattr__ = dict.get


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.warning = self.error = self.lines.append


@pytest.fixture
def executor(tmp_path, monkeypatch) -> Any:
    """An executor without a workflow; no state of a job is waited for."""
    monkeypatch.chdir(tmp_path)
    made = Executor.__new__(Executor)
    made.workflow = SimpleNamespace(
        executor_settings=ExecutorSettings(silence_minutes=0.5, keep_successful_logs=True),
        workdir_init=tmp_path,
    )
    made.logger, made.status_rate_limiter = Logger(), Now()
    made.run_uuid, made._accounting = "run", False
    made._state_policy = StatePolicy(blocked_limit=0, grace=0)
    made._silent_since, made._last_logged = None, (0.0, "")
    made._failures, made._ran_short = Counter(), set()
    made._nodes, made._site, made.wait = {}, Site(), True
    made._failed_nodes, made._partitions, made._fallback_partition = set(), None, "cpu"
    made._main_event_loop, made.format_job_exec = None, lambda job: "snakemake 'a b'"
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
            jobid=1,
            rule=SimpleNamespace(name="extract"),
            wildcards={},
            input=[],
            output=[output],
            is_group=lambda: False,
            resources={},
            threads=1,
        ),
    )


def submit(job: Any, identifier: str, run: str = "run") -> None:
    record_submission(job, run)
    record_slurm_id(job, identifier)


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
    monkeypatch.setattr(queue, "states", lambda run: shown)
    assert check(executor, *map(job, "123")) == ["1"]
    assert executor.ended["2"] == "success"
    assert "ended as FAILED" in executor.ended["3"]
    assert executor.logger.lines == ["SLURM: 1 completed, 1 failed, 1 running"]


def finish(output: str, time: float = 2e9) -> None:
    Path(output).touch()
    os.utime(output, (time, time))


def test_a_forgotten_job_is_judged_by_its_tables(executor, monkeypatch):
    monkeypatch.setattr(queue, "states", lambda run: {})
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
    monkeypatch.setattr(queue, "states", lambda run: {})
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
    monkeypatch.setattr(queue, "states", lambda run: {})
    monkeypatch.setattr(queue, "accounted", lambda job: JobState(state, ""))
    assert check(executor, job("1")) == []
    assert outcome in executor.ended["1"]


def test_no_job_is_dropped_while_slurm_is_silent(executor, monkeypatch):
    def silent(run: str) -> Any:
        raise SlurmError("squeue: Unable to contact slurm controller")

    monkeypatch.setattr(queue, "states", silent)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(executor_module.time, "monotonic", lambda: clock.now)
    assert check(executor, job("1"), job("2")) == ["1", "2"]
    clock.now = 29
    assert check(executor, job("1"), job("2")) == ["1", "2"]
    clock.now = 30
    with pytest.raises(WorkflowError, match=r"not answered for 30 s .* Jobs 1 2 may still run"):
        check(executor, job("1"), job("2"))


def test_an_answer_ends_the_silence(executor, monkeypatch):
    executor._silent_since = -1e9
    monkeypatch.setattr(queue, "states", lambda run: {"1": JobState("RUNNING", "None")})
    assert check(executor, job("1")) == ["1"]
    assert executor._silent_since is None


def test_without_jobs_nothing_is_asked(executor, monkeypatch):
    monkeypatch.setattr(queue, "states", lambda run: pytest.fail("asked"))
    assert check(executor) == []


@pytest.mark.parametrize(
    ("in_queue", "tracked", "cancelled"),
    [
        ({"1", "2"}, [], ["1", "2"]),  # while they are checked, Snakemake tracks none
        (set(), ["1"], []),  # it has ended
        (None, ["1"], ["1"]),  # squeue does not answer
    ],
)
def test_an_interrupted_run_cancels_all_of_its_jobs(
    executor, monkeypatch, in_queue, tracked, cancelled
):
    def unfinished(run: str) -> set[str]:
        if in_queue is None:
            raise SlurmError("squeue did not answer")
        return in_queue

    found: list[str] = []
    monkeypatch.setattr(queue, "unfinished", unfinished)
    monkeypatch.setattr(queue, "cancel", found.extend)
    executor.cancel_jobs([job(one) for one in tracked])
    assert found == cancelled
    assert executor.logger.lines == []


def test_jobs_that_cannot_be_cancelled_are_named(executor, monkeypatch):
    monkeypatch.setattr(queue, "unfinished", lambda run: {"7"})
    monkeypatch.setattr(queue, "cancel", lambda jobs: "scancel: timed out")
    executor.cancel_jobs([])
    assert executor.logger.lines == ["SLURM jobs 7 may still run: scancel: timed out"]


def test_a_job_that_is_submitted_after_the_interrupt_is_cancelled(executor, monkeypatch):
    found: list[str] = []
    executor.report_job_submission = lambda info: None
    monkeypatch.setattr(queue, "unfinished", lambda run: set())
    monkeypatch.setattr(queue, "cancel", found.extend)
    executor._report_submitted(job("8").job, "8")
    executor.cancel_jobs([])
    assert found == []
    executor._report_submitted(job("9").job, "9")
    assert found == ["9"]


def test_a_blocked_job_is_cancelled(executor, monkeypatch):
    cancelled: list[str] = []
    monkeypatch.setattr(queue, "states", lambda run: {"1": JobState("PENDING", "PartitionDown")})
    monkeypatch.setattr(queue, "cancel", cancelled.extend)
    assert check(executor, job("1")) == []
    assert cancelled == ["1"]
    assert "partition is down" in executor.ended["1"]


@pytest.mark.parametrize(("nodes", "waits"), [(True, ["1"]), (False, [])])
def test_busy_nodes_are_waited_for(executor, monkeypatch, nodes, waits):
    asked: list[tuple[str, bool]] = []
    shown = {"1": JobState("PENDING", "ReqNodeNotAvail, May be reserved for other job", "gpu")}
    monkeypatch.setattr(queue, "states", lambda run: shown)
    monkeypatch.setattr(queue, "cancel", lambda jobs: None)
    monkeypatch.setattr(
        queue, "has_nodes", lambda place, *, gpu: asked.append((place, gpu)) or nodes
    )
    assert check(executor, job("1")) == waits
    assert asked == [("gpu", False)]


@pytest.fixture
def clock(executor, monkeypatch) -> Any:
    """Time that passes only in sleep; thirty seconds of it are silence."""
    time = SimpleNamespace(now=0.0, slept=[])

    def sleep(seconds: float) -> None:
        time.now += seconds
        time.slept.append(seconds)

    monkeypatch.setattr(executor_module.time, "monotonic", lambda: time.now)
    monkeypatch.setattr(executor_module.time, "sleep", sleep)
    return time


class Sbatch:
    """Stands in for sbatch and for Snakemake: fails with these messages, then succeeds."""

    def __init__(self, executor: Any, monkeypatch: Any, *failures: str) -> None:
        self.failures = list(failures)
        self.commands: list[str] = []
        self.submitted: list[str] = []
        self.known_before: list[Any] = []
        self.failed: list[str] = []
        monkeypatch.setattr(queue, "submit", self._submit)
        executor.report_job_submission = lambda info: self.submitted.append(info.external_jobid)
        executor.report_job_error = lambda info, msg: self.failed.append(msg)

    @property
    def calls(self) -> int:
        return len(self.commands)

    def _submit(self, command: str, script: str | None) -> str:
        self.commands.append(command)
        self.known_before += pending_submissions()
        if self.failures:
            raise SlurmError(f"sbatch: {self.failures.pop(0)}")
        return "7;cluster\n"


AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"


def test_a_submission_is_repeated_while_slurm_is_away(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, AWAY, "Socket timed out on send/recv operation")
    monkeypatch.setattr(queue, "unfinished_with", lambda comment, run: [])
    shard = job("").job
    executor.run_job(shard)
    assert (sbatch.calls, sbatch.submitted, sbatch.failed) == (3, ["7"], [])
    assert clock.slept == [2, 4]
    assert last_submission(shard).slurm_id == "7"
    # A run that is killed in between leaves word of the job, and of when it was submitted.
    assert [(known.slurm_id, known.run) for known in sbatch.known_before] == [("", "run")] * 3
    assert last_submission(shard).time == sbatch.known_before[0].time


def test_an_sbatch_without_an_answer_is_a_silence(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "did not answer within 60 s")
    monkeypatch.setattr(queue, "unfinished_with", lambda comment, run: [])
    executor.run_job(job("").job)
    assert (sbatch.calls, sbatch.submitted) == (2, ["7"])
    assert "did not answer within 60 s. Trying again in 2 s." in executor.logger.lines[0]


def test_a_submission_that_slurm_took_all_the_same_is_not_repeated(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, AWAY)
    shard = job("").job
    asked: list[str] = []
    monkeypatch.setattr(
        queue, "unfinished_with", lambda comment, run: asked.append(comment) or ["12"]
    )
    executor.run_job(shard)
    assert (sbatch.calls, sbatch.submitted, sbatch.failed) == (1, ["12"], [])
    assert asked == [job_key(shard)]
    assert f"--comment 'extract {job_key(shard)}'" in sbatch.commands[0]


def test_a_submission_that_is_refused_is_not_repeated(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "invalid partition specified: nowhere")
    executor.run_job(job("").job)
    assert (sbatch.calls, clock.slept) == (1, [])
    assert "nowhere" in sbatch.failed[0]


def test_submissions_end_after_the_limit_of_silence(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, *[AWAY] * 99)
    monkeypatch.setattr(queue, "unfinished_with", lambda comment, run: [])
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
    monkeypatch.setattr(queue, "unfinished_with", lambda comment, run: [])
    monkeypatch.setattr(queue, "has_own_jobs", lambda: sbatch.calls <= room_after)
    executor.run_job(job("").job)
    assert sbatch.submitted == submitted
    if submitted:  # far beyond the limit of silence, and said once
        assert clock.now == 2 + 4 + 8 + 16 + 32 + 4 * 60
        line, _ = executor.logger.lines  # and that it has been submitted
        assert "QOSMaxSubmitJobPerUserLimit" in line
        assert "Waiting for room there" in line
    else:
        assert (sbatch.calls, clock.now) == (1, 0)  # nobody's end would make room
        assert "QOSMaxSubmitJobPerUserLimit" in sbatch.failed[0]


def test_the_end_of_own_jobs_ends_the_wait_for_room(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, *[FULL] * 99)
    monkeypatch.setattr(queue, "unfinished_with", lambda comment, run: [])
    monkeypatch.setattr(queue, "has_own_jobs", lambda: sbatch.calls <= 4)
    executor.run_job(job("").job)
    assert len(sbatch.failed) == 1


def test_a_refused_group_says_why(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch, "Invalid account or account/partition combination")
    one = job("").job
    group = SimpleNamespace(
        output=["a"], jobs=[one], is_group=lambda: True, name="analysis", resources={}, threads=1
    )
    executor.run_job(group)
    assert "Invalid account" in sbatch.failed[0]  # which Snakemake leaves out, of a group
    assert any("Invalid account" in line for line in executor.logger.lines)


@pytest.mark.parametrize(("run", "whose"), [("run", "earlier try"), ("old", "earlier run")])
def test_a_job_that_still_works_on_the_outputs_is_cancelled_first(
    executor, monkeypatch, clock, run, whose
):
    sbatch = Sbatch(executor, monkeypatch)
    shard = job("").job
    submit(shard, "5", run)
    cancelled: list[str] = []

    def cancel(jobs: list[str]) -> str | None:  # the first one is not heard
        cancelled.extend(jobs)
        return "scancel: timed out" if len(cancelled) == 1 else None

    monkeypatch.setattr(queue, "cancel", cancel)
    monkeypatch.setattr(
        queue, "unfinished", lambda run: {"5"} if len(cancelled) < 2 or clock.now < 15 else set()
    )
    executor.run_job(shard)
    assert cancelled == ["5", "5"]
    assert clock.now >= 15
    assert sbatch.submitted == ["7"]
    assert whose in executor.logger.lines[0]


def test_an_orphaned_job_of_a_run_that_never_learnt_its_id(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch)
    shard = job("").job
    record_submission(shard, "old")
    cancelled: list[str] = []
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(queue, "unfinished_with", lambda *about: asked.append(about) or ["9"])
    monkeypatch.setattr(queue, "cancel", cancelled.extend)
    monkeypatch.setattr(queue, "unfinished", lambda run: set() if cancelled else {"9"})
    executor.run_job(shard)
    assert (asked, cancelled) == ([(job_key(shard), "old")], ["9"])
    assert sbatch.submitted == ["7"]


def test_an_orphaned_job_that_does_not_end_is_an_error(executor, monkeypatch, clock):
    sbatch = Sbatch(executor, monkeypatch)
    shard = job("").job
    submit(shard, "5")
    monkeypatch.setattr(queue, "cancel", lambda jobs: None)
    monkeypatch.setattr(queue, "unfinished", lambda run: {"5"})
    executor.run_job(shard)
    assert sbatch.calls == 0
    assert "SLURM job 5 of an earlier try does not end" in sbatch.failed[0]


def test_a_job_without_a_record_of_its_submission_is_not_taken_for_done(executor, monkeypatch):
    monkeypatch.setattr(queue, "states", lambda run: {})
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
    asked = SimpleNamespace(resources=resources, add_aux_resource=found.__setitem__)
    executor._add_gpu_resources(asked)
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
    executor._add_gpu_resources(
        SimpleNamespace(resources=resources, add_aux_resource=found.__setitem__)
    )
    assert found == added


def test_account_quality_and_partition_are_the_sites_or_the_rules_own(executor):
    executor._site = Site(account="a", gpu_account="b", qos="q", gpu_partition="gpu,more")
    shard = job("").job
    command, script = executor._submit_command(shard)
    assert " -A a --qos=q  -p cpu " in command
    assert command.endswith(""" --wrap='snakemake '"'"'a b'"'"''""")
    assert script is None
    shard.resources = {"gpu": 1}
    assert " -A b --qos=q  -p gpu,more " in executor._submit_command(shard)[0]
    shard.resources = Resources(slurm_account="their own", slurm_partition="long")
    assert " -A 'their own' --qos=q  -p long " in executor._submit_command(shard)[0]


def test_a_command_can_be_passed_as_a_script(executor):
    executor.workflow.executor_settings.pass_command_as_script = True
    command, script = executor._submit_command(job("").job)
    assert command.endswith(" /dev/stdin")
    assert script == "#!/bin/sh\nsnakemake 'a b'"


def test_questions_have_an_end(monkeypatch):
    monkeypatch.setattr(queue, "TIMEOUT", 0.2)
    with pytest.raises(SlurmError, match=r"sleep did not answer within 0\.2 s"):
        query("sleep", "5")
    with pytest.raises(SlurmError, match="there is no no-such-command here"):
        query("no-such-command")
    with pytest.raises(SlurmError, match="sh: down"):
        query("sh", "-c", "echo down >&2; exit 1")


def test_states_are_read_with_their_reasons(monkeypatch):
    text = "1|RUNNING|cpu|None\n2|PENDING|gpu|ReqNodeNotAvail, UnavailableNodes:a\n"
    monkeypatch.setattr(queue, "query", lambda *command: text)
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
    monkeypatch.setattr(queue, "query", lambda *command: text)
    assert queue.has_nodes("main", gpu=gpu) is found


def test_jobs_are_found_by_their_comment(monkeypatch):
    text = "1|extract_one_000 abc\n2|metrics abd\n3|(null)\n"
    monkeypatch.setattr(queue, "query", lambda *command: text)
    assert queue.unfinished_with("abd", "run") == ["2"]


PROGRAMS = {
    "sinfo": 'case "$*" in *%P*) echo "main*|gpu:4";; *) echo "main|gpu:4";; esac',
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


def run_with_sbatch(
    folder: Path, script: str, workflow: str = WORKFLOW, timeout: int = 60, **programs: str
) -> subprocess.CompletedProcess[str]:
    """Run a workflow on a cluster that the scripts pretend.

    ``timeout`` is how long a SLURM command may take, in seconds. Some scripts run the whole job
    within ``sbatch``: a short limit would submit such a job a second time on a busy machine.
    """
    (folder / "Snakefile").write_text(workflow)
    for name, content in (PROGRAMS | {"sbatch": script} | programs).items():
        write_program(folder / name, content)
    start = (
        "import sys; from snakemake_executor_plugin_vrp_slurm import queue; "
        f"queue.TIMEOUT = {timeout}; from snakemake.cli import main; main(sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", start, "--executor", "vrp-slurm", "--jobs", "1",
         "--vrp-slurm-silence-minutes", "0.1",
         "--vrp-slurm-init-seconds-before-status-checks", "1"],
        cwd=folder, timeout=120, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
            "PATH": f"{folder}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(folder / "cache"),
        },
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.workflow
def test_an_sbatch_that_hangs_ends_the_run_in_bounded_time(tmp_path):
    ended = run_with_sbatch(tmp_path, "exec sleep 1000", timeout=1)
    assert ended.returncode != 0
    said = " ".join(ended.stdout.split())
    assert "sbatch did not answer within 1 s. Trying again in 2 s." in said
    assert said.count("sbatch did not answer within 1 s") >= 2  # the last one is the error


@pytest.mark.slow
@pytest.mark.workflow
def test_snakemake_prints_why_a_group_is_refused(tmp_path):
    ended = run_with_sbatch(tmp_path, "echo 'sbatch: error: Invalid account' >&2; exit 1")
    assert ended.returncode != 0
    assert "sbatch: error: Invalid account" in " ".join(ended.stdout.split())


# Runs the job as SLURM does: the text after --wrap= is a script for a shell.
RUN_JOB = """
for part in "$@"; do case "$part" in --wrap=*) script="${part#--wrap=}";; esac; done
echo RUNNING >state
{ sh -c "$script" && echo COMPLETED >state || echo FAILED >state; } >log 2>&1 </dev/null &
echo 7
"""
STEP = 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'
STATES = 'case "$*" in *%T*) echo "7|$(cat state)|main|None";; esac'


# Each job ends as the next line of `ends` says.
END_AS_TOLD = """
echo "$@" >>calls
echo $(wc -l <calls)
"""
ENDS = 'case "$*" in *%T*) awk \'{print NR "|" $0 "|main|None"}\' ends;; esac'


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("group", ["", 'group: "together"'])
def test_a_retry_asks_for_more_only_where_memory_or_time_was_short(tmp_path, group):
    ends = ["CANCELLED", "OUT_OF_MEMORY", "FAILED", "TIMEOUT", "PREEMPTED", "COMPLETED"]
    (tmp_path / "ends").write_text("\n".join(ends[:5]))
    workflow = WORKFLOW.replace('group: "together"', f"retries: 4\n    {group}").replace(
        "mem_mb=100, runtime=5",
        "mem_mb=lambda wildcards, attempt: 100 * attempt, runtime=lambda w, attempt: 5 * attempt",
    )
    ended = run_with_sbatch(tmp_path, END_AS_TOLD, workflow, squeue=ENDS)
    assert ended.returncode != 0
    calls = (tmp_path / "calls").read_text()
    assert re.findall(r"--mem (\d+)", calls) == ["100", "100", "200", "200", "300"], ended.stdout
    assert re.findall(r" -t (\d+)", calls) == ["5", "5", "10", "10", "15"]


# As `--wrap` is run by SLURM, in a shell of its own; the job's end is its exit status.
END_AS_IT_DOES = """
for part in "$@"; do case "$part" in --wrap=*) script="${part#--wrap=}";; esac; done
if sh -c "$script" >>log 2>&1 </dev/null; then echo COMPLETED >>ends; else echo FAILED >>ends; fi
echo $(wc -l <ends)
"""


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("sbatch", [END_AS_IT_DOES, "echo 'sbatch: error: no' >&2; exit 1"])
def test_an_output_that_is_updated_stays_where_its_job_fails(tmp_path, sbatch):
    (tmp_path / "out.txt").write_text("the last whole one")
    (tmp_path / "ends").touch()
    os.utime(tmp_path / "out.txt", (1, 1))
    (tmp_path / "new.txt").touch()
    workflow = WORKFLOW.replace(
        'output: "out.txt"', 'input: "new.txt"\n    output: update("out.txt")'
    )
    ended = run_with_sbatch(tmp_path, sbatch, workflow, squeue=ENDS, srun=STEP)
    assert ended.returncode != 0
    kept = tmp_path / "out.txt"
    assert kept.exists(), ended.stdout
    assert kept.read_text() == "the last whole one", ended.stdout


@pytest.mark.parametrize(
    ("line", "tells"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.", True),
        ("srun: error: node1: task 0: Out Of Memory", True),
        ("slurmstepd: error: *** JOB 7 ON n CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***", True),
        ("slurmstepd: error: *** JOB 7 ON n CANCELLED AT 2026-01-01 DUE TO PREEMPTION ***", False),
        ("vrp extract: no such image file", False),
    ],
)
def test_a_log_tells_of_a_shortage_that_the_state_does_not(executor, monkeypatch, line, tells):
    monkeypatch.setattr(queue, "states", lambda run: {"1": JobState("FAILED", "None")})
    failed = job("1")
    failed.aux["slurm_logfile"] = Path("1.log")
    Path("1.log").write_text(f"{'x' * 100_000}\n{line}\nmore\n")
    check(executor, failed)
    assert executor._ran_short == ({job_key(failed.job)} if tells else set())


@pytest.mark.slow
@pytest.mark.workflow
def test_a_submitted_command_reaches_the_job_as_it_is(tmp_path):
    workflow = WORKFLOW.replace("out.txt", "$HOME 'a' b.txt").replace(
        '"false"', '"touch {output:q}"'
    )
    ended = run_with_sbatch(tmp_path, RUN_JOB, workflow, srun=STEP, squeue=STATES)
    assert ended.returncode == 0, ended.stdout + (tmp_path / "log").read_text()
    assert (tmp_path / "$HOME 'a' b.txt").exists()

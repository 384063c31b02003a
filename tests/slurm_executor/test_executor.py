"""What the executor does with jobs that the queue forgot, and with a silent SLURM."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_common.exceptions import WorkflowError

import snakemake_executor_plugin_vrp_slurm as plugin
from snakemake_executor_plugin_vrp_slurm.queue import QueueSilentError, ask, states
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
        job=SimpleNamespace(output=[output], is_group=lambda: False),
    )


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


def test_a_forgotten_job_is_judged_by_its_tables(executor, monkeypatch, tmp_path):
    monkeypatch.setattr(plugin.queue, "states", lambda run: {})
    (tmp_path / "there.parquet").touch()
    assert check(executor, job("1", "there.parquet"), job("2", "absent.parquet")) == []
    assert executor.ended["1"] == "success"
    assert "no longer knows job 2" in executor.ended["2"]


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


def test_questions_have_an_end(monkeypatch):
    monkeypatch.setattr(plugin.queue, "_PATIENCE", 0.2)
    with pytest.raises(QueueSilentError, match=r"sleep did not answer within 0\.2 s"):
        ask("sleep", "5")
    with pytest.raises(QueueSilentError, match="there is no no-such-command here"):
        ask("no-such-command")
    with pytest.raises(QueueSilentError, match="sh: down"):
        ask("sh", "-c", "echo down >&2; exit 1")


def test_states_are_read_with_their_reasons(monkeypatch):
    text = "1|RUNNING|None\n2|PENDING|ReqNodeNotAvail, UnavailableNodes:a\n"
    monkeypatch.setattr(plugin.queue, "ask", lambda *command: text)
    assert states("run") == {
        "1": JobState("RUNNING", "None"),
        "2": JobState("PENDING", "ReqNodeNotAvail, UnavailableNodes:a"),
    }

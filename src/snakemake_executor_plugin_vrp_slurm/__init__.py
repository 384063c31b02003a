"""Snakemake's executor `vrp-slurm`: its SLURM executor, without the silences.

Submission is that of `snakemake-executor-plugin-slurm`. What is added: account, partitions and
GPU type come from one file of the user's; SLURM is asked for the states of jobs in one way that
needs no accounting; every state has an end in bounded time; and jobs that a killed Snakemake left
in the queue are cancelled before theirs are submitted anew.
"""

import asyncio
import hashlib
import json
import shlex
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from snakemake_executor_plugin_slurm import (
    Executor as SlurmExecutor,
)
from snakemake_executor_plugin_slurm import (
    ExecutorSettings as SlurmSettings,
)
from snakemake_executor_plugin_slurm import (
    common_settings as common_settings,
)
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_vrp_slurm import queue
from snakemake_executor_plugin_vrp_slurm.queue import QueueSilentError
from snakemake_executor_plugin_vrp_slurm.site import Site, faults, read_site
from snakemake_executor_plugin_vrp_slurm.verdicts import GONE, JobState, Verdict, Verdicts, in_words

_SUBMITTED = Path(".snakemake", "slurm_jobs")
_HEARTBEAT = 600  # seconds between two lines about a queue in which nothing changes
_CANCEL_PATIENCE = 120  # seconds; SLURM kills what does not stop by itself after 30


# Snakemake makes command-line options of these fields and wants Optional[...] for it.
# ruff: noqa: UP045


@dataclass
class ExecutorSettings(SlurmSettings):
    """Settings of `snakemake-executor-plugin-slurm`, and these."""

    status_command: Optional[str] = field(
        default=None,
        metadata={"help": "Not used: squeue is asked, and sacct where it works."},
    )
    init_seconds_before_status_checks: Optional[int] = field(
        default=20, metadata={"help": "Seconds between two looks at the queue."}
    )
    site: Optional[Path] = field(
        default=None,
        metadata={"help": "YAML file with account, cpu_partition, gpu_partition, gpu_type, qos."},
    )
    blocked_minutes: Optional[float] = field(
        default=20,
        metadata={
            "help": "Minutes after which a job is given up that cannot start without somebody's "
            "doing: nodes drained, partition down, held, impossible request."
        },
    )
    silence_minutes: Optional[float] = field(
        default=15,
        metadata={"help": "Minutes without an answer from SLURM after which the run ends."},
    )


class Executor(SlurmExecutor):
    """Submits jobs to SLURM and gives none up to silence."""

    def __post_init__(self, test_mode: bool = False) -> None:
        """Look at the cluster before anything is submitted.

        Raises:
            WorkflowError: SLURM does not answer, or lacks what the site's file asks for.
        """
        settings = self.workflow.executor_settings
        if settings.array_jobs:
            raise WorkflowError("array jobs are not supported: one job is one shard of one model")
        self._site_file = settings.site
        self._site: Site = read_site(settings.site)
        self._look_at_the_cluster()
        interval = settings.init_seconds_before_status_checks
        self._verdicts = Verdicts(blocked_limit=60 * settings.blocked_minutes, settle=3 * interval)
        self._silent_since: float | None = None
        self._said: tuple[float, str] = (time.monotonic(), "")
        super().__post_init__(test_mode)

    def _look_at_the_cluster(self) -> None:
        try:
            partitions = queue.partitions()
        except QueueSilentError as error:
            raise WorkflowError(
                f"SLURM does not answer ({error}). Is this a login node of the cluster? "
                "`snakemake --cores 2` runs without SLURM."
            ) from None
        if found := faults(self._site, partitions, where=str(self._site_file)):
            raise WorkflowError("\n".join(found))
        fault = queue.accounting_fault()
        self._accounting = fault is None
        self.logger.info(
            "SLURM answers; jobs are followed with squeue"
            + (f" alone: {fault}." if fault else ", and sacct for those that it forgot.")
        )

    def get_account_arg(self, job: JobExecutorInterface) -> Iterator[str]:
        """Account of a job: the rule's own, else the site's, else the cluster's default."""
        if job.resources.get("slurm_account"):
            yield from super().get_account_arg(job)
        else:
            account = f" -A {shlex.quote(self._site.account)}" if self._site.account else ""
            qos = f" --qos={shlex.quote(self._site.qos)}" if self._site.qos else ""
            yield account + qos

    def get_partition_arg(self, job: JobExecutorInterface) -> str:
        """Partition of a job: the rule's own, else the site's, else the cluster's default."""
        site = self._site.gpu_partition if holds_gpu(job) else self._site.cpu_partition
        if site is None or job.resources.get("slurm_partition"):
            return str(super().get_partition_arg(job))
        return f" -p {shlex.quote(site)}"

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job, after what an earlier run left of it in the queue has ended."""
        try:
            self._end_leftover(job)
            if self._site.gpu_type and holds_gpu(job) and not job.resources.get("gpu_model"):
                job.add_aux_resource("gpu_model", self._site.gpu_type)
        except Exception as error:  # in a thread of its own, where nobody would see it
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"Not submitted: {error}. ")
            return
        super().run_job(job)

    def _end_leftover(self, job: JobExecutorInterface) -> None:
        """Cancel the job that a killed Snakemake submitted for the same outputs; wait for its end.

        Two jobs on one shard would do everything twice. Finished batches are kept, so that little
        is lost.
        """
        try:
            earlier = json.loads(_submission_of(job).read_text())
        except (OSError, ValueError):
            return
        identifier, run = earlier["job"], earlier["run"]
        if run == self.run_uuid or not queue.is_unfinished(identifier, run):
            return
        self.logger.warning(
            f"SLURM job {identifier} of an earlier run works on the same tables as {job}: it is "
            "cancelled; what it has finished is kept."
        )
        queue.cancel([identifier])
        end = time.monotonic() + _CANCEL_PATIENCE
        while queue.is_unfinished(identifier, run):
            if time.monotonic() > end:
                raise QueueSilentError(
                    f"SLURM job {identifier} of an earlier run does not end; see `scontrol show "
                    f"job {identifier}`"
                )
            time.sleep(1)

    def _report_job_submission_threadsafe(self, job_info: SubmittedJobInfo) -> None:
        record = _submission_of(job_info.job)
        record.parent.mkdir(parents=True, exist_ok=True)
        part = record.with_suffix(".part")
        part.write_text(json.dumps({"job": job_info.external_jobid, "run": self.run_uuid}))
        part.replace(record)
        super()._report_job_submission_threadsafe(job_info)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yield the others.

        Raises:
            WorkflowError: SLURM has been silent for too long.
        """
        settings = self.workflow.executor_settings
        self.next_seconds_between_status_checks = settings.init_seconds_before_status_checks
        if not active_jobs:
            return
        try:
            async with self.status_rate_limiter:
                seen = await asyncio.to_thread(queue.states, self.run_uuid)
        except QueueSilentError as error:
            self._endure(error, active_jobs)
            for info in active_jobs:
                yield info
            return
        self._silent_since = None
        self._tell(active_jobs, seen)
        for info in active_jobs:
            verdict = self._verdicts.judge(info.external_jobid, seen.get(info.external_jobid))
            if verdict is GONE:
                verdict = await asyncio.to_thread(self._verdict_without_queue, info)
            if verdict.outcome == "wait":
                yield info
            elif verdict.outcome == "done":
                self._succeed(info)
            else:
                self._give_up(info, verdict)

    def _endure(self, error: QueueSilentError, active_jobs: list[SubmittedJobInfo]) -> None:
        """Count the time without an answer; end the run when it is too long."""
        now = time.monotonic()
        limit = 60 * self.workflow.executor_settings.silence_minutes
        if self._silent_since is None:
            self._silent_since = now
            self.logger.warning(
                f"SLURM does not answer ({error}); waiting for up to {in_words(limit)}."
            )
        if now - self._silent_since >= limit:
            jobs = " ".join(info.external_jobid for info in active_jobs)
            raise WorkflowError(
                f"SLURM has not answered for {in_words(limit)} ({error}). Jobs {jobs} may still "
                "run: nothing that they finish is lost. When SLURM is back, the same command "
                "continues (after `snakemake --unlock`, if it asks for it)."
            )

    def _tell(self, active_jobs: list[SubmittedJobInfo], seen: dict[str, JobState]) -> None:
        """Say how the queue stands, when it changed, and now and then when it does not."""
        counts = Counter(
            f"{state.state.lower()} ({state.reason})" if state.state == "PENDING"
            else state.state.lower()
            for info in active_jobs
            if (state := seen.get(info.external_jobid)) is not None
        )  # fmt: skip
        line = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        now = time.monotonic()
        if line and (line != self._said[1] or now - self._said[0] >= _HEARTBEAT):
            self.logger.info(f"SLURM: {line}")
            self._said = (now, line)

    def _verdict_without_queue(self, info: SubmittedJobInfo) -> Verdict:
        """Judge a job that the queue no longer shows: by the accounting, else by its outputs.

        Outputs are deleted before a job starts and appear only whole.
        """
        job = info.external_jobid
        state = queue.accounted(job) if self._accounting else None
        if state is not None:
            verdict = self._verdicts.judge(job, state)
            if verdict.outcome in ("done", "failed"):
                return verdict
        if all(Path(path).exists() for path in _outputs(info.job)):
            return Verdict("done")
        return Verdict("failed", f"SLURM no longer knows job {job}, and its tables are not there.")

    def _succeed(self, info: SubmittedJobInfo) -> None:
        self.report_job_success(info)
        log = info.aux.get("slurm_logfile")
        if log is not None and not self.workflow.executor_settings.keep_successful_logs:
            log.unlink(missing_ok=True)

    def _give_up(self, info: SubmittedJobInfo, verdict: Verdict) -> None:
        if verdict.outcome == "cancel":
            queue.cancel([info.external_jobid])
        if info.job.is_group():  # Snakemake prints no message of a group's error
            self.logger.error(verdict.message)
        log = info.aux.get("slurm_logfile")
        self.report_job_error(info, msg=f"{verdict.message} ", aux_logs=[str(log)] if log else [])


def holds_gpu(job: JobExecutorInterface) -> bool:
    """Whether a job asks for a GPU, one way or another."""
    return bool(job.resources.get("gpu")) or "gpu" in str(job.resources.get("gres", ""))


def _outputs(job: Any) -> list[str]:
    """Declared outputs of a job, or of all jobs of a group."""
    return sorted({str(path) for path in job.output})


def _submission_of(job: JobExecutorInterface) -> Path:
    """Where the last submission for a job's outputs is recorded."""
    digest = hashlib.sha256("\n".join(_outputs(job)).encode()).hexdigest()
    return _SUBMITTED / f"{digest[:32]}.json"

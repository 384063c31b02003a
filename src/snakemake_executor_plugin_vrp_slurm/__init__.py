"""Snakemake's executor `vrp-slurm`: its SLURM executor, without the silences.

Submission is that of `snakemake-executor-plugin-slurm`. What is added: account, partitions and
GPU type come from one file of the user's; SLURM is asked for the states of jobs in one way that
needs no accounting; every state has an end in bounded time; jobs that a killed Snakemake left in
the queue are cancelled before theirs are submitted anew, and tables that they finished are looked
at before they are believed.
"""

import asyncio
import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional, TypeVar

import snakemake_executor_plugin_slurm as beneath
from snakemake_executor_plugin_slurm import (
    Executor as SlurmExecutor,
)
from snakemake_executor_plugin_slurm import (
    ExecutorSettings as SlurmSettings,
)
from snakemake_executor_plugin_slurm import (
    common_settings as common_settings,
)
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_vrp_slurm import queue
from snakemake_executor_plugin_vrp_slurm.queue import QueueSilentError
from snakemake_executor_plugin_vrp_slurm.site import Site, faults, read_site
from snakemake_executor_plugin_vrp_slurm.submissions import (
    finished_since,
    identity,
    members,
    note,
    note_id,
    noted,
)
from snakemake_executor_plugin_vrp_slurm.verdicts import GONE, JobState, Verdict, Verdicts, in_words

_HEARTBEAT = 600  # seconds between two lines about a queue in which nothing changes
_CANCEL_PATIENCE = 120  # seconds; SLURM kills what does not stop by itself after 30
_CANCEL_AGAIN = 10  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0  # seconds between two tries while SLURM is silent
# What sbatch says when trying again helps.
_TRANSIENT = re.compile(
    r"Unable to contact|[Tt]imed out|[Tt]emporarily|Connection (refused|reset)|Zero Bytes|"
    r"[Tt]ry again|Transport endpoint|did not answer|standby|[Mm]unge"
)
# What it says when the queue holds as many jobs as a limit of the site allows, such as
# AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit or AssocGrpSubmitJobsLimit.
_QUEUE_FULL = re.compile(r"(Max|Grp)SubmitJob")

# What the executor beneath says of an sbatch that ended without a word.
_NO_ANSWER = "The error message was ''"
_command_beneath = beneath.get_submit_command


def _submit_command(*arguments: Any, **named: Any) -> str:
    """The call of sbatch, with an end: the executor beneath waits for it without one."""
    return f"timeout --kill-after=5 {queue.PATIENCE} {_command_beneath(*arguments, **named)}"


beneath.get_submit_command = _submit_command

_Answer = TypeVar("_Answer")


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
        metadata={"help": "YAML file of account, partitions, GPU type and quality of service."},
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
        self._nodes: dict[tuple[str, bool], bool] = {}
        self._thread = threading.local()
        self._silent_since: float | None = None
        self._said: tuple[float, str] = (time.monotonic(), "")
        super().__post_init__(test_mode)
        # Asked for above, with an end; the executor beneath would wait for ever.
        self._fallback_partition = self._default_partition

    def _look_at_the_cluster(self) -> None:
        try:
            partitions = queue.partitions()
            self._default_partition = queue.default_partition()
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
        file = self._site_file
        there = file is not None and file.is_file()
        place = f"{file}" if there else f"there is no {file or 'site file'}"
        self.logger.info(f"{place}: {self._site.in_words()}.")

    def get_partition_arg(self, job: JobExecutorInterface) -> str:
        """Partition of a job: the rule's own, else the site's, else the cluster's default."""
        partition = self._site.for_job(gpu=holds_gpu(job)).partition
        if partition is None or job.resources.get("slurm_partition"):
            return str(super().get_partition_arg(job))
        return f" -p {shlex.quote(partition)}"

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job, after what an earlier run or try left of it in the queue has ended."""
        try:
            self._end_leftovers(job)
            self._complete(job)
            note(job, self.run_uuid)
            self._submit(job)
        except Exception as error:  # in a thread of its own, where nobody would see it
            self._refuse(SubmittedJobInfo(job), f"Not submitted: {error}. ")

    def get_account_arg(self, job: JobExecutorInterface) -> Iterator[str]:
        """Account of a job: the rule's own, else the site's, else the cluster's default.

        And a comment by which the job can be found in the queue; of two, sbatch takes the last.
        """
        site = self._site.for_job(gpu=holds_gpu(job))
        account = job.resources.get("slurm_account") or site.account
        name = "_".join(part for part in (job.name, get_job_wildcards(job)) if part)
        options = {"-A ": account, "--qos=": site.qos, "--comment=": f"{name} {identity(job)}"}
        yield "".join(f" {key}{shlex.quote(str(its))}" for key, its in options.items() if its)

    def _complete(self, job: JobExecutorInterface) -> None:
        """Add what a job that holds a GPU must ask for, where its rule does not say it."""
        if not holds_gpu(job):
            return
        # A site without `--gpus` is asked by `gres`, which names the type itself.
        if (
            self._site.gpu_type
            and not job.resources.get("gpu_model")
            and not job.resources.get("gres")
        ):
            job.add_aux_resource("gpu_model", self._site.gpu_type)
        # One process uses them all: SLURM would be free to give one on each of two nodes.
        if int(job.resources.get("gpu") or 0) > 1 and not job.resources.get("nodes"):
            job.add_aux_resource("nodes", 1)

    def _submit(self, job: JobExecutorInterface) -> None:
        """Submit a job; try again while SLURM is out of reach, and wait while its queue is full."""
        end = time.monotonic() + self._silence_limit()
        pause = _FIRST_PAUSE
        said = ""
        while (failure := self._failure_to_submit(job)) is not None:
            info, text = failure
            before, said = said, text.split("\n    sbatch call:")[0]
            if full := bool(_QUEUE_FULL.search(said)) and self._own_jobs_are_queued():
                end = time.monotonic() + pause + self._silence_limit()
            helps = full or _TRANSIENT.search(said)
            if not helps or time.monotonic() + pause > end or not self.wait:
                self._refuse(info, text)
                return
            if said != before or not full:  # a full queue may take hours: it is said once
                how = "Waiting for room there" if full else f"Trying again in {in_words(pause)}"
                self.logger.warning(f"{said} {how}.")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            # SLURM may have taken it and lost only its answer.
            if there := self._insist(lambda: queue.unfinished_with(identity(job), self.run_uuid)):
                self._adopt(job, there[0])
                return

    def _failure_to_submit(self, job: JobExecutorInterface) -> tuple[SubmittedJobInfo, str] | None:
        """Submit a job; return what SLURM says where it does not take it."""
        self._thread.failure = None
        self._thread.submits = True
        try:
            super().run_job(job)
        finally:
            self._thread.submits = False
        if self._thread.failure is None:
            return None
        info, text = self._thread.failure
        silent = f"It did not answer within {queue.PATIENCE} s"
        return info, text.replace(_NO_ANSWER, silent)

    def _own_jobs_are_queued(self) -> bool:
        """Whether any job of this user is in the queue, whose end makes room."""
        try:
            return queue.holds_own_jobs()
        except QueueSilentError:
            return False

    def _adopt(self, job: JobExecutorInterface, identifier: str) -> None:
        """Follow a job that is in the queue, though its submission seemed to fail."""
        kind = "group" if job.is_group() else "rule"
        folder = self.slurm_logdir / f"{kind}_{job.name}" / get_job_wildcards(job)
        self.logger.info(f"SLURM has {job} all the same, as job {identifier}.")
        self._report_job_submission_threadsafe(
            SubmittedJobInfo(
                job,
                external_jobid=identifier,
                aux={"slurm_logfile": folder / f"{identifier}.log"},
            )
        )

    def _report_job_error_threadsafe(
        self, job_info: SubmittedJobInfo, *args: Any, **kwargs: Any
    ) -> None:
        if getattr(self._thread, "submits", False):
            self._thread.failure = (job_info, *args)
        else:
            super()._report_job_error_threadsafe(job_info, *args, **kwargs)

    def _refuse(self, info: SubmittedJobInfo, text: str) -> None:
        """Report a job that SLURM does not take."""
        self._say_for_group(info, text)
        super()._report_job_error_threadsafe(info, text)

    def _say_for_group(self, info: SubmittedJobInfo, text: str) -> None:
        """Print what Snakemake does not: it leaves out the message of a group's error."""
        if info.job.is_group():
            self.logger.error(text)

    def _silence_limit(self) -> float:
        """Seconds."""
        return float(60 * self.workflow.executor_settings.silence_minutes)

    def _insist(self, question: Callable[[], _Answer]) -> _Answer:
        """Ask until SLURM answers or has been silent for too long.

        Raises:
            QueueSilentError: it has.
        """
        end = time.monotonic() + self._silence_limit()
        pause = _FIRST_PAUSE
        while True:
            try:
                return question()
            except QueueSilentError:
                if time.monotonic() + pause > end or not self.wait:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _end_leftovers(self, job: JobExecutorInterface) -> None:
        """Cancel SLURM jobs that still work on the same outputs; wait for their end.

        Those of a killed Snakemake, and those of an earlier try that were given up and live on.
        Two jobs on one shard would do everything twice. Finished batches are kept, so that little
        is lost.
        """
        noted_ones = [its for member in members(job) if (its := noted(member)) is not None]
        for known, run, comment in {(its.job, its.run, its.identity) for its in noted_ones}:
            for identifier in self._insist(partial(_unfinished, known, run, comment)):
                whose = "an earlier try" if run == self.run_uuid else "an earlier run"
                self.logger.warning(
                    f"SLURM job {identifier} of {whose} works on the same tables as {job}: it is "
                    "cancelled; what it has finished is kept."
                )
                self._cancel_and_wait(identifier, run, whose)

    def _cancel_and_wait(self, identifier: str, run: str, whose: str) -> None:
        end = time.monotonic() + _CANCEL_PATIENCE
        again = 0.0
        while True:
            now = time.monotonic()
            fault = None
            if now >= again:
                fault, again = queue.cancel([identifier]), now + _CANCEL_AGAIN
            if not self._insist(lambda: queue.is_unfinished(identifier, run)):
                return
            if now > end:
                raise WorkflowError(
                    f"SLURM job {identifier} of {whose} does not end"
                    f"{f' ({fault})' if fault else ''}; see `scontrol show job {identifier}`"
                )
            time.sleep(1)

    def _report_job_submission_threadsafe(self, job_info: SubmittedJobInfo) -> None:
        note_id(job_info.job, job_info.external_jobid)
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
        self._nodes.clear()
        for info in active_jobs:
            verdict = await asyncio.to_thread(self._judge, info, seen.get(info.external_jobid))
            if verdict is GONE:
                verdict = await asyncio.to_thread(self._verdict_without_queue, info)
            if verdict.outcome == "wait":
                yield info
            elif verdict.outcome == "done":
                self._succeed(info)
            else:
                self._give_up(info, verdict)

    def _judge(self, info: SubmittedJobInfo, seen: JobState | None) -> Verdict:
        def has_nodes() -> bool:
            assert seen is not None
            place = (seen.partition, holds_gpu(info.job))
            if place not in self._nodes:
                try:
                    self._nodes[place] = queue.has_nodes(place[0], gpu=place[1])
                except QueueSilentError:
                    return True  # asked again at the next look
            return self._nodes[place]

        return self._verdicts.judge(info.external_jobid, seen, has_nodes=has_nodes)

    def _endure(self, error: QueueSilentError, active_jobs: list[SubmittedJobInfo]) -> None:
        """Count the time without an answer; end the run when it is too long."""
        now = time.monotonic()
        limit = self._silence_limit()
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

        Outputs appear only whole; those from before the submission are not the job's.
        """
        job = info.external_jobid
        state = queue.accounted(job) if self._accounting else None
        if state is not None:
            verdict = self._verdicts.judge(job, state)
            if verdict.outcome in ("done", "failed"):
                return verdict
        if all(finished_since(member) for member in members(info.job)):
            return Verdict("done")
        return Verdict(
            "failed", f"SLURM no longer knows job {job}, and it has not written all its tables."
        )

    def _succeed(self, info: SubmittedJobInfo) -> None:
        self.report_job_success(info)
        log = info.aux.get("slurm_logfile")
        if log is not None and not self.workflow.executor_settings.keep_successful_logs:
            log.unlink(missing_ok=True)

    def _give_up(self, info: SubmittedJobInfo, verdict: Verdict) -> None:
        if verdict.outcome == "cancel" and (fault := queue.cancel([info.external_jobid])):
            self.logger.warning(f"SLURM job {info.external_jobid} could not be cancelled: {fault}")
        self._say_for_group(info, verdict.message)
        log = info.aux.get("slurm_logfile")
        self.report_job_error(info, msg=f"{verdict.message} ", aux_logs=[str(log)] if log else [])


def _unfinished(job: str, run: str, comment: str) -> list[str]:
    """The job of a run if it has not ended; where its id is not known, those with the comment."""
    if not job:
        return queue.unfinished_with(comment, run)
    return [job] if queue.is_unfinished(job, run) else []


def holds_gpu(job: JobExecutorInterface) -> bool:
    """Whether a job asks for a GPU, one way or another."""
    return bool(job.resources.get("gpu")) or "gpu" in str(job.resources.get("gres", ""))

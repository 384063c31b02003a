"""The executor: submission of jobs, and tracking of each to its end."""

import asyncio
import re
import shlex
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from snakemake.io import is_flagged
from snakemake_executor_plugin_slurm import Executor as UpstreamExecutor
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import get_job_wildcards, set_gres_string
from snakemake_executor_plugin_slurm.validation import (
    validate_or_get_slurm_job_id,
    validate_slurm_extra,
)
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_vrp_slurm import queue
from snakemake_executor_plugin_vrp_slurm.hooks import (
    FAILED_JOBS,
    PERSISTENCE,
    SLURM_PLUGIN,
    SLURM_PLUGIN_ATTRIBUTES,
    describe_missing,
    missing_name,
)
from snakemake_executor_plugin_vrp_slurm.job_states import (
    GONE,
    Decision,
    JobState,
    StatePolicy,
    format_duration,
    log_tells_shortage,
)
from snakemake_executor_plugin_vrp_slurm.queue import SlurmError
from snakemake_executor_plugin_vrp_slurm.site import Site, read_site, site_errors
from snakemake_executor_plugin_vrp_slurm.submissions import (
    has_finished,
    job_key,
    last_submission,
    members,
    record_slurm_id,
    record_submission,
)

_HEARTBEAT = 600  # seconds between two lines about a queue in which nothing changes
_CANCEL_TIMEOUT = 120  # seconds; SLURM kills what does not stop by itself after 30
_CANCEL_INTERVAL = 10  # seconds between two scancel of one job
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0  # seconds between two tries while SLURM does not answer
# What sbatch prints when trying again helps.
_TRANSIENT = re.compile(
    r"Unable to contact|[Tt]imed out|[Tt]emporarily|Connection (refused|reset)|Zero Bytes|"
    r"[Tt]ry again|Transport endpoint|did not answer|standby|[Mm]unge"
)
# What it prints when the queue holds as many jobs as a limit of the site allows, such as
# AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit or AssocGrpSubmitJobsLimit.
_QUEUE_FULL = re.compile(r"(Max|Grp)SubmitJob")

_Answer = TypeVar("_Answer")


class Executor(UpstreamExecutor):
    """Submits jobs to SLURM and tracks each until its outcome is known."""

    _interrupted = False

    def __init__(self, workflow: Any, logger: Any) -> None:
        """Check the names of Snakemake that are used here and by the run after a killed one.

        Raises:
            WorkflowError: Snakemake lacks a name that is used of it.
        """
        if missing := missing_name(PERSISTENCE) or missing_name(FAILED_JOBS):
            raise WorkflowError(missing)
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        """Check the cluster before anything is submitted.

        Raises:
            WorkflowError: SLURM does not answer, or lacks what the site's file asks for.
        """
        settings = self.workflow.executor_settings
        if settings.array_jobs:
            raise WorkflowError("array jobs are not supported: one job is one shard of one model")
        self._site_file = settings.site
        self._site: Site = read_site(settings.site)
        self._check_cluster()
        interval = settings.init_seconds_before_status_checks
        self._state_policy = StatePolicy(
            blocked_limit=60 * settings.blocked_minutes, grace=3 * interval
        )
        self._nodes: dict[tuple[str, bool], bool] = {}
        self._failures: Counter[str] = Counter()
        self._ran_short: set[str] = set()
        self._silent_since: float | None = None
        self._last_logged: tuple[float, str] = (time.monotonic(), "")
        super().__post_init__(test_mode)
        for name in SLURM_PLUGIN_ATTRIBUTES:
            if not hasattr(self, name):
                raise WorkflowError(describe_missing(SLURM_PLUGIN, f"Executor().{name}"))
        self._fallback_partition = self._default_partition

    def _check_cluster(self) -> None:
        try:
            # Upstream would query the default partition without a time limit.
            partitions, self._default_partition = queue.partitions()
        except SlurmError as error:
            raise WorkflowError(
                f"SLURM does not answer ({error}). Is this a login node of the cluster? "
                "`snakemake --cores 2` runs without SLURM."
            ) from None
        if errors := site_errors(self._site, partitions, where=str(self._site_file)):
            raise WorkflowError("\n".join(errors))
        no_accounting = queue.accounting_error()
        self._accounting = no_accounting is None
        how = (
            f" alone: {no_accounting}" if no_accounting else ", and sacct for those that it forgot"
        )
        self.logger.info(f"SLURM answers; jobs are tracked with squeue{how}.")
        file = self._site_file
        exists = file is not None and file.is_file()
        source = file if exists else f"there is no {file or 'site file'}"
        self.logger.info(f"{source}: {self._site.describe()}.")

    # Submission -----------------------------------------------------------------------------

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job once no SLURM job of an earlier run or try works on its outputs."""
        try:
            self._cancel_orphaned_jobs(job)
            self._add_gpu_resources(job)
            record_submission(job, self.run_uuid)
            self._submit(job)
        except Exception as error:  # in a thread of its own, where nobody would see it
            self._report_refused(job, f"Not submitted: {error}. ")

    def _submit(self, job: JobExecutorInterface) -> None:
        """Submit a job; retry while SLURM is out of reach, and wait while its queue is full."""
        end = time.monotonic() + self._silence_limit()
        pause = _FIRST_PAUSE
        logged = ""
        command, script = self._submit_command(job)
        while True:
            try:
                self._report_submitted(job, queue.submit(command, script))
                return
            except SlurmError as error:
                reason = str(error)
            # The end of any job of this user makes room in a full queue.
            if full := bool(_QUEUE_FULL.search(reason)) and queue.has_own_jobs():
                end = time.monotonic() + pause + self._silence_limit()
            helps = full or _TRANSIENT.search(reason)
            if not helps or time.monotonic() + pause > end or not self.wait:
                call = f"\n    sbatch call:\n        {command}\n"
                self._report_refused(job, f"Not submitted: {reason}{call}")
                return
            if reason != logged or not full:  # a full queue may take hours: it is logged once
                how = (
                    "Waiting for room there" if full
                    else f"Trying again in {format_duration(pause)}"
                )  # fmt: skip
                self.logger.warning(f"{_name(job)} is not submitted: {reason}. {how}.")
            logged = reason
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            # SLURM may have taken the job and only its answer was lost.
            find = partial(queue.unfinished_with, job_key(job), self.run_uuid)
            if accepted := self._retry_until_answer(find):
                self.logger.info(f"SLURM has accepted {_name(job)} nevertheless.")
                self._report_submitted(job, accepted[0])
                return

    def _submit_command(self, job: JobExecutorInterface) -> tuple[str, str | None]:
        """The sbatch command of a job, for a shell, and what is passed to it as standard input.

        Raises:
            WorkflowError: a resource of the job is not valid.
        """
        settings = self.workflow.executor_settings
        validate_slurm_extra(job)
        log = self._slurm_log(job, "%j")
        log.parent.mkdir(parents=True, exist_ok=True)
        parameters = {
            "run_uuid": self.run_uuid,
            "slurm_logfile": Path(str(log.parent).replace("%", "%%"), log.name),
            # What the job is, for people, and its key, by which it is found in the queue.
            "comment_str": f"{_name(job)} {job_key(job)}",
            "account": self._account_options(job),
            "partition": self.get_partition_arg(job),
            "workdir": self.workflow.workdir_init,
        }
        command = get_submit_command(
            job, parameters, settings=settings, failed_nodes=self._failed_nodes
        ) + set_gres_string(job)
        run = self.format_job_exec(job)
        if settings.pass_command_as_script:
            return f"{command} /dev/stdin", f"#!/bin/sh\n{run}"
        return f"{command} --wrap={shlex.quote(run)}", None

    def additional_general_args(self) -> str:
        """Arguments of the Snakemake that runs in a SLURM job, and of the one that it starts.

        Only the run that submits deletes outputs of a failed job. Of the two in the job, the inner
        one restores what is updated and drops the backup; the outer one would then find no backup
        and delete what was restored.
        """
        return f"{super().additional_general_args()} --keep-incomplete"

    def _slurm_log(self, job: JobExecutorInterface, slurm_id: str) -> Path:
        kind = "group" if job.is_group() else "rule"
        folder: Path = self.slurm_logdir / f"{kind}_{job.name}" / get_job_wildcards(job)
        return folder / f"{slurm_id}.log"

    def _account_options(self, job: JobExecutorInterface) -> str:
        """Account and quality of service: the rule's own, else the site's, else the default."""
        site = self._site.for_job(gpu=holds_gpu(job))
        account = job.resources.get("slurm_account") or site.account
        options = {"-A ": account, "--qos=": site.qos}
        return "".join(f" {key}{shlex.quote(str(name))}" for key, name in options.items() if name)

    def get_partition_arg(self, job: JobExecutorInterface) -> str:
        """Partition of a job: the rule's own, else the site's, else the cluster's default."""
        partition = self._site.for_job(gpu=holds_gpu(job)).partition
        if partition is None or job.resources.get("slurm_partition"):
            return str(super().get_partition_arg(job))
        return f" -p {shlex.quote(partition)}"

    def _add_gpu_resources(self, job: JobExecutorInterface) -> None:
        """Add what a job that holds a GPU must ask for, where its rule does not set it."""
        if not holds_gpu(job):
            return
        # A site without `--gpus` is asked by `gres`, which names the type itself.
        has_type = job.resources.get("gpu_model") or job.resources.get("gres")
        if self._site.gpu_type and not has_type:
            job.add_aux_resource("gpu_model", self._site.gpu_type)
        # One process uses them all: SLURM would be free to give one on each of two nodes.
        if int(job.resources.get("gpu") or 0) > 1 and not job.resources.get("nodes"):
            job.add_aux_resource("nodes", 1)

    def _report_submitted(self, job: JobExecutorInterface, answer: str) -> None:
        """Record the id that SLURM gave a job, and have the job tracked."""
        slurm_id = str(validate_or_get_slurm_job_id(answer.strip().split(";")[0], answer))
        record_slurm_id(job, slurm_id)
        log = self._slurm_log(job, slurm_id)
        self.logger.info(
            f"Job {job.jobid} has been submitted with SLURM jobid {slurm_id} (log: {log})."
        )
        self._report_job_submission_threadsafe(
            SubmittedJobInfo(job, external_jobid=slurm_id, aux={"slurm_logfile": log})
        )
        if self._interrupted:  # after the queue was asked for the jobs to cancel
            queue.cancel([slurm_id])

    def _report_refused(self, job: JobExecutorInterface, message: str) -> None:
        self._log_group_error(job, message)
        self._back_up_updated(job)
        self._report_job_error_threadsafe(SubmittedJobInfo(job), message)

    def _log_group_error(self, job: JobExecutorInterface, message: str) -> None:
        """Log what Snakemake does not: it leaves out the message of a group's error."""
        if job.is_group():
            self.logger.error(message)

    def _silence_limit(self) -> float:
        """Seconds."""
        return float(60 * self.workflow.executor_settings.silence_minutes)

    def _retry_until_answer(self, query: Callable[[], _Answer]) -> _Answer:
        """Query SLURM until it answers or has been silent for too long.

        Raises:
            SlurmError: it has.
        """
        end = time.monotonic() + self._silence_limit()
        pause = _FIRST_PAUSE
        while True:
            try:
                return query()
            except SlurmError:
                if time.monotonic() + pause > end or not self.wait:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _cancel_orphaned_jobs(self, job: JobExecutorInterface) -> None:
        """Cancel SLURM jobs that still work on the same outputs; wait for their end.

        Those of a killed Snakemake, and those of an earlier try that were given up and live on.
        Two jobs on one shard would do everything twice. Finished batches are kept, so that little
        is lost.
        """
        known = [last for member in members(job) if (last := last_submission(member)) is not None]
        for slurm_id, run, key in {(last.slurm_id, last.run, last.key) for last in known}:
            for found in self._retry_until_answer(partial(_unfinished, slurm_id, run, key)):
                owner = "an earlier try" if run == self.run_uuid else "an earlier run"
                self.logger.warning(
                    f"SLURM job {found} of {owner} works on the same tables as {_name(job)}: it is "
                    "cancelled; what it has finished is kept."
                )
                self._cancel_and_wait(found, run, owner)

    def _cancel_and_wait(self, slurm_id: str, run: str, owner: str) -> None:
        end = time.monotonic() + _CANCEL_TIMEOUT
        next_try = 0.0
        while True:
            now = time.monotonic()
            error = None
            if now >= next_try:
                error, next_try = queue.cancel([slurm_id]), now + _CANCEL_INTERVAL
            if slurm_id not in self._retry_until_answer(lambda: queue.unfinished(run)):
                return
            if now > end:
                raise WorkflowError(
                    f"SLURM job {slurm_id} of {owner} does not end"
                    f"{f' ({error})' if error else ''}; see `scontrol show job {slurm_id}`"
                )
            time.sleep(1)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs of this run, when it is interrupted.

        Snakemake passes those that it tracks: none while it checks them, and not the one that is
        just being submitted. The queue knows all.
        """
        self._interrupted = True
        jobs = {str(info.external_jobid) for info in active_jobs if info.external_jobid}
        with suppress(SlurmError):
            jobs = queue.unfinished(self.run_uuid)
        if jobs and (error := queue.cancel(sorted(jobs))):
            self.logger.warning(f"SLURM jobs {', '.join(sorted(jobs))} may still run: {error}")

    # Tracking -------------------------------------------------------------------------------

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yield the others.

        Raises:
            WorkflowError: SLURM has not answered for too long.
        """
        settings = self.workflow.executor_settings
        self.next_seconds_between_status_checks = settings.init_seconds_before_status_checks
        if not active_jobs:
            return
        try:
            async with self.status_rate_limiter:
                states = await asyncio.to_thread(queue.states, self.run_uuid)
        except SlurmError as error:
            self._check_silence(error, active_jobs)
            for info in active_jobs:
                yield info
            return
        self._silent_since = None
        self._log_queue(active_jobs, states)
        self._nodes.clear()
        for info in active_jobs:
            decision = await asyncio.to_thread(self._decide, info, states.get(info.external_jobid))
            if decision is GONE:
                decision = await asyncio.to_thread(self._decide_without_queue, info)
            if decision.outcome == "wait":
                yield info
            elif decision.outcome == "done":
                self._report_success(info)
            else:
                self._report_failure(info, decision)

    def _decide(self, info: SubmittedJobInfo, state: JobState | None) -> Decision:
        def has_nodes() -> bool:
            assert state is not None
            place = (state.partition, holds_gpu(info.job))
            if place not in self._nodes:
                self._nodes[place] = queue.has_nodes(place[0], gpu=place[1])
            return self._nodes[place]

        return self._state_policy.decide(info.external_jobid, state, has_nodes=has_nodes)

    def _decide_without_queue(self, info: SubmittedJobInfo) -> Decision:
        """Decide on a job that the queue no longer shows: by the accounting, else by its outputs.

        Outputs appear only whole; those from before the submission are not the job's.
        """
        slurm_id = info.external_jobid
        state = queue.accounted(slurm_id) if self._accounting else None
        if state is not None:
            decision = self._state_policy.decide(slurm_id, state)
            if decision.outcome in ("done", "failed"):
                return decision
        if all(has_finished(member) for member in members(info.job)):
            return Decision("done")
        why = f"SLURM no longer knows job {slurm_id}, and it has not written all its tables."
        return Decision("failed", why)

    def _check_silence(self, error: SlurmError, active_jobs: list[SubmittedJobInfo]) -> None:
        """Measure the time without an answer; end the run when it is too long."""
        now = time.monotonic()
        limit = self._silence_limit()
        if self._silent_since is None:
            self._silent_since = now
            self.logger.warning(
                f"SLURM does not answer ({error}); waiting for up to {format_duration(limit)}."
            )
        if now - self._silent_since >= limit:
            jobs = " ".join(info.external_jobid for info in active_jobs)
            raise WorkflowError(
                f"SLURM has not answered for {format_duration(limit)} ({error}). Jobs {jobs} may "
                "still run: nothing that they finish is lost. When SLURM is back, the same command "
                "continues (after `snakemake --unlock`, if it asks for it)."
            )

    def _log_queue(self, active_jobs: list[SubmittedJobInfo], states: dict[str, JobState]) -> None:
        """Log queue changes, plus a periodic heartbeat."""
        counts = Counter(
            f"{state.name.lower()} ({state.reason})" if state.name == "PENDING"
            else state.name.lower()
            for info in active_jobs
            if (state := states.get(info.external_jobid)) is not None
        )  # fmt: skip
        line = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        now = time.monotonic()
        if line and (line != self._last_logged[1] or now - self._last_logged[0] >= _HEARTBEAT):
            self.logger.info(f"SLURM: {line}")
            self._last_logged = (now, line)

    def _report_success(self, info: SubmittedJobInfo) -> None:
        self.report_job_success(info)
        log = info.aux.get("slurm_logfile")
        if log is not None and not self.workflow.executor_settings.keep_successful_logs:
            log.unlink(missing_ok=True)

    def _report_failure(self, info: SubmittedJobInfo, decision: Decision) -> None:
        if decision.outcome == "cancel" and (error := queue.cancel([info.external_jobid])):
            self.logger.warning(f"SLURM job {info.external_jobid} could not be cancelled: {error}")
        self._log_group_error(info.job, decision.message)
        log = info.aux.get("slurm_logfile")
        if decision.ran_short or (log and log_tells_shortage(log)):
            self._ran_short.add(job_key(info.job))
        self._back_up_updated(info.job)
        self.report_job_error(info, msg=f"{decision.message} ", aux_logs=[str(log)] if log else [])

    def _back_up_updated(self, job: JobExecutorInterface) -> None:
        """Back up outputs of a failed job that its failure is to leave as they were (`update`).

        Snakemake restores them in the job, which drops the backup, and here again; without a
        backup it would delete them.
        """
        for member in members(job):
            for path in (Path(output) for output in member.output if is_flagged(output, "update")):
                records = self.workflow.persistence
                if path.exists() and not records._get_backup_path(path).exists():
                    records.backup_output(path)

    def handle_job_error(self, job: JobExecutorInterface) -> None:
        """Have the next try ask for more only where this one lacked memory or time.

        Snakemake goes on to the next attempt, by which resources grow, or gives the job up after
        as many as there are retries: so the tries are counted here.
        """
        super().handle_job_error(job)
        key = job_key(job)
        self._failures[key] += 1
        ran_short = key in self._ran_short
        self._ran_short.discard(key)
        if self._failures[key] > job.restart_times:
            job._attempt = job.restart_times + 1  # its last
        elif not ran_short:
            job._attempt -= 1  # not by the setter: Snakemake has yet to free what the job held


def _name(job: JobExecutorInterface) -> str:
    """Name of a job for people: its rule or group, and its wildcards."""
    return "_".join(part for part in (job.name, get_job_wildcards(job)) if part)


def _unfinished(slurm_id: str, run: str, key: str) -> list[str]:
    """The job of a run if it has not ended; where its id is not known, those with the key."""
    if not slurm_id:
        return queue.unfinished_with(key, run)
    return [slurm_id] if slurm_id in queue.unfinished(run) else []


def holds_gpu(job: JobExecutorInterface) -> bool:
    """Whether a job asks for a GPU, by `gpu` or by `gres`."""
    return bool(job.resources.get("gpu")) or "gpu" in str(job.resources.get("gres", ""))

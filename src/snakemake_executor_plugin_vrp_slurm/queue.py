"""Questions to SLURM, each with an end: an answer, or `QueueSilentError` after at most a minute."""

import shutil
import subprocess
from collections.abc import Sequence

from snakemake_executor_plugin_vrp_slurm.verdicts import JobState

_PATIENCE = 60  # seconds


class QueueSilentError(Exception):
    """SLURM did not answer, or not as it should."""


def ask(*command: str) -> str:
    """Return what a SLURM command prints.

    Raises:
        QueueSilentError: it is not there, takes over a minute or fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise QueueSilentError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise QueueSilentError(f"{command[0]} did not answer within {_PATIENCE} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise QueueSilentError(f"{command[0]}: {words or f'exit status {done.returncode}'}")
    return done.stdout


def states(run: str) -> dict[str, JobState]:
    """Return the state of every job of a run that the controller still knows, by its id.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    text = ask("squeue", "--noheader", "--states=all", f"--name={run}", "--format=%i|%T|%r")
    rows = [line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {job.strip(): JobState(state.strip(), reason.strip()) for job, state, reason in rows}


def is_unfinished(job: str, run: str) -> bool:
    """Whether a job of a run is pending, running or just ending.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    text = ask("squeue", "--noheader", f"--name={run}", "--format=%i")
    return job in text.split()


def accounted(job: str) -> JobState | None:
    """Return how a job ended by the accounting; None where that does not know it either."""
    try:
        text = ask("sacct", "-X", "--noheader", "--parsable2", "--format=State", "--jobs", job)
    except QueueSilentError:
        return None
    state = text.strip().splitlines()
    return JobState(state[-1], "") if state else None


def accounting_fault() -> str | None:
    """Return why finished jobs cannot be looked up in the accounting, None where they can."""
    if shutil.which("sacct") is None:
        return "no sacct"
    try:
        ask("sacct", "-X", "--noheader", "--starttime=now-1minutes")
    except QueueSilentError as error:
        return str(error)
    return None


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already do not matter."""
    try:
        ask("scancel", *jobs)
    except QueueSilentError:
        return


def partitions() -> dict[str, set[str]]:
    """Return the generic resources (gpu:a100:4, ...) of every partition, by its name.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    found: dict[str, set[str]] = {}
    for line in ask("sinfo", "--noheader", "--all", "--format=%R|%G").splitlines():
        name, _, resources = line.partition("|")
        found.setdefault(name.strip(), set()).update(resources.strip().split(","))
    return found

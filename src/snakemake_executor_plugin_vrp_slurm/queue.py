"""Questions to SLURM, each with an end: an answer, or `QueueSilentError` after at most a minute."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from snakemake_executor_plugin_vrp_slurm.verdicts import JobState

PATIENCE = 60  # seconds
# States of nodes, as `sinfo` names them; a star: the node does not answer.
_OUT_OF_SERVICE = re.compile(r"down|drain|fail|error|unk|no_respond|.*\*$")


class QueueSilentError(Exception):
    """SLURM did not answer, or not as it should."""


def ask(*command: str) -> str:
    """Return what a SLURM command prints.

    Raises:
        QueueSilentError: it is not there, takes over a minute or fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise QueueSilentError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise QueueSilentError(f"{command[0]} did not answer within {PATIENCE} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise QueueSilentError(f"{command[0]}: {words or f'exit status {done.returncode}'}")
    return done.stdout


def _own_queue(*options: str) -> str:
    """What squeue says of this user's jobs; the controller then sends no others."""
    return ask("squeue", "--noheader", "--me", *options)


def states(run: str) -> dict[str, JobState]:
    """Return the state of every job of a run that the controller still knows, by its id.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    text = _own_queue("--states=all", f"--name={run}", "--format=%i|%T|%P|%r")
    rows = [line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3]
    return {
        job.strip(): JobState(state.strip(), reason.strip(), partition.strip())
        for job, state, partition, reason in rows
    }


def unfinished(run: str) -> set[str]:
    """Return the jobs of a run that are pending, running or just ending.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    return set(_own_queue(f"--name={run}", "--format=%i").split())


def is_unfinished(job: str, run: str) -> bool:
    """Whether a job of a run is pending, running or just ending.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    return job in unfinished(run)


def unfinished_with(comment: str, run: str) -> list[str]:
    """Return the jobs of a run that have not ended and whose comment ends so.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    text = _own_queue(f"--name={run}", "--format=%i|%k")
    rows = [line.partition("|") for line in text.splitlines()]
    return [job.strip() for job, _, said in rows if said.strip().endswith(comment)]


def holds_own_jobs() -> bool:
    """Whether any job of this user is pending, running or just ending.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    return bool(_own_queue("--format=%i").split())


def has_nodes(partition: str, *, gpu: bool) -> bool:
    """Whether a node of a partition, with a GPU if one is wanted, is in service, busy or not.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    text = ask("sinfo", "--noheader", f"--partition={partition}", "--format=%T|%G")
    rows = [line.strip().lower().partition("|") for line in text.splitlines()]
    return any(
        not _OUT_OF_SERVICE.match(state) and (not gpu or "gpu" in resources)
        for state, _, resources in rows
    )


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


def cancel(jobs: Sequence[str]) -> str | None:
    """Cancel jobs; return what SLURM says where it did not.

    It says so of jobs that have ended already, too: `is_unfinished` tells.
    """
    try:
        ask("scancel", *jobs)
    except QueueSilentError as error:
        return str(error)
    return None


def default_partition() -> str:
    """Return the partition of jobs that name none; empty where the cluster has none.

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    names = ask("sinfo", "--noheader", "--all", "--format=%P").split()
    return next((name.removesuffix("*") for name in names if name.endswith("*")), "")


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

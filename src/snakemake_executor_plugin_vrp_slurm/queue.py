"""Commands of SLURM, each with a time limit: an answer, or `SlurmError` after at most a minute."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from snakemake_executor_plugin_vrp_slurm.job_states import JobState

TIMEOUT = 60  # seconds
# States of nodes, as `sinfo` names them; a star: the node does not answer.
_OUT_OF_SERVICE = re.compile(r"down|drain|fail|error|unk|no_respond|.*\*$")


class SlurmError(Exception):
    """A command of SLURM did not answer, failed, or is not installed."""


def query(*command: str, name: str = "", stdin: str | None = None) -> str:
    """Return what a SLURM command prints.

    Args:
        command: the program and its arguments.
        name: of the program, for messages; empty: the first part of the command.
        stdin: what the command reads; None: it inherits the standard input.

    Raises:
        SlurmError: it is not installed, takes over a minute or fails.
    """
    name = name or command[0]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"there is no {name} here") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} did not answer within {TIMEOUT} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise SlurmError(f"{name}: {words or f'exit status {done.returncode}'}")
    return done.stdout


def submit(command: str, script: str | None = None) -> str:
    """Run an sbatch command in a shell; return what it prints, the id of the job.

    Args:
        command: the command line, quoted for a shell.
        script: what the command reads as standard input.

    Raises:
        SlurmError: the job is refused, or SLURM does not answer.
    """
    # `exec`: the time limit ends sbatch itself and not a shell around it.
    return query("sh", "-c", f"exec {command}", name="sbatch", stdin=script)


def _own_queue(*options: str) -> str:
    """What squeue prints of this user's jobs; the controller then sends no others."""
    return query("squeue", "--noheader", "--me", *options)


def states(run: str) -> dict[str, JobState]:
    """Return the state of every job of a run that the controller still knows, by its id.

    Raises:
        SlurmError: SLURM does not answer.
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
        SlurmError: SLURM does not answer.
    """
    return set(_own_queue(f"--name={run}", "--format=%i").split())


def unfinished_with(comment: str, run: str) -> list[str]:
    """Return the jobs of a run that have not ended and whose comment ends with `comment`.

    Raises:
        SlurmError: SLURM does not answer.
    """
    text = _own_queue(f"--name={run}", "--format=%i|%k")
    rows = [line.partition("|") for line in text.splitlines()]
    return [job.strip() for job, _, found in rows if found.strip().endswith(comment)]


def has_own_jobs() -> bool:
    """Whether any job of this user is known to be pending, running or just ending."""
    try:
        return bool(_own_queue("--format=%i").split())
    except SlurmError:
        return False


def has_nodes(partition: str, *, gpu: bool) -> bool:
    """Whether a node of a partition, with a GPU if one is wanted, is in service, busy or not.

    True where SLURM does not answer: nobody knows of the contrary.
    """
    try:
        text = query("sinfo", "--noheader", f"--partition={partition}", "--format=%T|%G")
    except SlurmError:
        return True
    rows = [line.strip().lower().partition("|") for line in text.splitlines()]
    return any(
        not _OUT_OF_SERVICE.match(state) and (not gpu or "gpu" in resources)
        for state, _, resources in rows
    )


def accounted(job: str) -> JobState | None:
    """Return how a job ended according to the accounting; None where it is unknown there, too."""
    try:
        text = query("sacct", "-X", "--noheader", "--parsable2", "--format=State", "--jobs", job)
    except SlurmError:
        return None
    state = text.strip().splitlines()
    return JobState(state[-1], "") if state else None


def accounting_error() -> str | None:
    """Return why finished jobs cannot be looked up in the accounting, None where they can."""
    if shutil.which("sacct") is None:
        return "no sacct"
    return _error_of("sacct", "-X", "--noheader", "--starttime=now-1minutes")


def cancel(jobs: Sequence[str]) -> str | None:
    """Cancel jobs; return SLURM's error, None where there is none.

    There is one for jobs that have ended already, too: `unfinished` tells the two apart.
    """
    return _error_of("scancel", *jobs)


def _error_of(*command: str) -> str | None:
    try:
        query(*command)
    except SlurmError as error:
        return str(error)
    return None


def partitions() -> tuple[dict[str, set[str]], str]:
    """Return the generic resources (gpu:a100:4, ...) of every partition, and the default partition.

    Returns:
        Name → resources, and the partition of jobs that name none; empty where there is none.

    Raises:
        SlurmError: SLURM does not answer.
    """
    found: dict[str, set[str]] = {}
    default = ""
    for line in query("sinfo", "--noheader", "--all", "--format=%P|%G").splitlines():
        marked, _, resources = line.partition("|")
        name = marked.strip().removesuffix("*")
        found.setdefault(name, set()).update(resources.strip().split(","))
        if marked.strip().endswith("*"):
            default = name
    return found, default

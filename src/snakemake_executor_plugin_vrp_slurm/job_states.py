"""What to do about a job in a given state: wait, take it as done or failed, or cancel it.

Nothing here queries SLURM: states and times go in, decisions come out.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple


class JobState(NamedTuple):
    """State of a job, as the queue shows it."""

    name: str
    """SLURM's long name of the state: PENDING, RUNNING, COMPLETED, ..."""
    reason: str
    """Why it is there, as `squeue` prints it: Priority, BadConstraints, ..."""
    partition: str = ""
    """The partition in which it waits or runs."""


class Decision(NamedTuple):
    """What to do about a job."""

    outcome: Literal["wait", "done", "failed", "cancel", "gone"]
    """wait: query again; cancel: end it and count it as failed; gone: the queue forgot it."""
    message: str = ""
    """For the user, where the job is given up."""
    ran_short: bool = False
    """Whether the job lacked memory or time, so that the next try needs more."""


WAIT, DONE, GONE = Decision("wait"), Decision("done"), Decision("gone")

_FAILED = {
    "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
}  # fmt: skip
_RAN_SHORT = {"OUT_OF_MEMORY", "TIMEOUT"}
# What SLURM writes into a job's log where a step of it ran short, which its state may not tell.
_LOG_TAIL = 65_536  # bytes
_SHORTAGE = re.compile(rb"oom[_-]kill|Out Of Memory|exceeded memory limit|DUE TO TIME LIMIT")
# SLURM may put such a job back into the queue, under the same id; where it does not, nobody will.
_MAY_RETURN = {"NODE_FAIL", "PREEMPTED"}
# A job may be in such a state for as long as it takes.
_UNLIMITED = {
    "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "RESIZING", "RUNNING", "STAGE_OUT",
    "SUSPENDED",
}  # fmt: skip
# Reasons that waiting alone does not resolve. Limits on what runs at once (`RunMinutes`, `Grp...`
# without minutes) and a reservation that is still to come are a queue like any other.
_BLOCKED = (
    (r"[Hh]eld\b|JobHeld|HoldMaxRequeue", "the job is held"),
    (r"^AccountNotAllowed", "the account may not use this partition"),
    (r"^BadConstraints", "no node has what the job asks for"),
    (r"^Dependency\w*Never|^DependencyNever", "what it depends on has failed"),
    (r"^Invalid", "the account or the quality of service does not exist"),
    (r"^Partition", "the partition is down, or does not allow the job's size or time"),
    (r"^QOSNotAllowed", "the quality of service may not be used here"),
    (r"^Reservation\w", "its reservation does not exist any more"),
    (r"(?<!Run)Minutes", "the account has no time left"),
    (r"PerJob|PerNode|MaxMemPerLimit|MaxWall|QOSMin", "a limit does not allow a job of this size"),
    (r"Failed\b", "SLURM could not prepare the job"),
)
# These say that no node is free, and read alike where nodes are only busy with something else.
_NODES = re.compile(r"^(Nodes required for job are DOWN|ReqNodeNotAvail|NodeDown)")


def blocking_reason(reason: str) -> str | None:
    """Return what a reason means if waiting alone does not resolve it, else None."""
    text = reason.strip("()")
    if needs_nodes(reason):
        return "the nodes are down, drained or reserved"
    return next((why for pattern, why in _BLOCKED if re.search(pattern, text)), None)


def needs_nodes(reason: str) -> bool:
    """Whether a job is blocked only if no node of its partition is in service."""
    return _NODES.match(reason.strip("()")) is not None


def log_tells_shortage(log: Path) -> bool:
    """Whether the end of a job's log says that memory or time ran out."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return _SHORTAGE.search(file.read()) is not None
    except OSError:
        return False


class StatePolicy:
    """Decides on jobs by their states; remembers since when each has been in an unusual one."""

    def __init__(
        self,
        *,
        blocked_limit: float,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits.

        Args:
            blocked_limit: seconds after which a job that cannot start, or cannot end, is given up.
            grace: seconds that SLURM gets to requeue a job, or to show a new one.
            clock: seconds, for tests.
        """
        self._blocked_limit = blocked_limit
        self._grace = grace
        self._clock = clock
        self._since: dict[str, tuple[str, float]] = {}

    def decide(
        self,
        job: str,
        state: JobState | None,
        *,
        has_nodes: Callable[[], bool] = lambda: False,
    ) -> Decision:
        """Return what to do about a job.

        Args:
            job: its id.
            state: how the queue shows it; None if it does not.
            has_nodes: whether any node that the job could run on is in service; called where the
                queue's reason leaves that open.
        """
        if state is None:
            return GONE if self._lasts(job, "absent", self._grace) else WAIT
        name = state.name.split()[0].rstrip("+")  # "CANCELLED by 0", "CANCELLED+"
        if name == "COMPLETED":
            return DONE
        if name in _FAILED:
            reason = "" if state.reason in ("None", "NonZeroExitCode", "") else f" ({state.reason})"
            message = f"SLURM job {job} ended as {name}{reason}{_hint(name)}."
            return Decision("failed", message, ran_short=name in _RAN_SHORT)
        if name in _MAY_RETURN:
            if not self._lasts(job, name, self._grace):
                return WAIT
            return Decision(
                "failed",
                f"SLURM job {job} ended as {name} and was not put back into the queue; what it "
                "had finished is kept.",
            )
        limit = format_duration(self._blocked_limit)
        if name == "PENDING" and (why := blocking_reason(state.reason)):
            if needs_nodes(state.reason) and has_nodes():
                self._since.pop(job, None)
                return WAIT
            if not self._lasts(job, "blocked", self._blocked_limit):
                return WAIT
            return Decision(
                "cancel",
                f"SLURM job {job} has not been able to start for {limit}: {why} ({state.reason}). "
                "It is cancelled; see `sinfo -R` and `scontrol show partition`, then give the same "
                "command again.",
            )
        if name not in _UNLIMITED:
            if not self._lasts(job, name, self._blocked_limit):
                return WAIT
            return Decision(
                "cancel",
                f"SLURM job {job} has been {name} for {limit}: its node may hang, or somebody "
                f"holds it; see `sinfo -R` and `scontrol show job {job}`.",
            )
        self._since.pop(job, None)
        return WAIT

    def _lasts(self, job: str, situation: str, limit: float) -> bool:
        """Whether a job has been in a situation without a break for as long as the limit."""
        now = self._clock()
        known, since = self._since.get(job, ("", now))
        if known != situation:
            since = now
        self._since[job] = (situation, since)
        return now - since >= limit


def format_duration(seconds: float) -> str:
    """Format a time: in seconds below two minutes, in minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _hint(state: str) -> str:
    hints = {
        "CANCELLED": "; somebody cancelled it",
        "OUT_OF_MEMORY": "; the next attempt asks for more memory",
        "TIMEOUT": "; the next attempt asks for more time and continues where it stopped",
    }
    return hints.get(state, "")

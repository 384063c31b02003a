"""Which SLURM job was last submitted for a job's outputs: one small file a job of the workflow."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

_FOLDER = Path(".snakemake", "slurm_jobs")


class Submission(NamedTuple):
    """The last submission of one job."""

    job: str
    """SLURM's id."""
    run: str
    """Name of the run that submitted it; all its SLURM jobs have it."""
    time: float
    """When, by the clock of the file system that the outputs are on."""


def members(job: Any) -> list[Any]:
    """The jobs of a group; a job that is no group is its own only member."""
    return list(job.jobs) if job.is_group() else [job]


def outputs_of(job: Any) -> list[str]:
    """Declared outputs of a job; of a group, also those that only its own jobs read."""
    return sorted({str(path) for member in members(job) for path in member.output})


def identity(job: Any) -> str:
    """What tells a job from all others of the workflow: the digest of its outputs' names."""
    return hashlib.sha256("\n".join(outputs_of(job)).encode()).hexdigest()[:32]


def note(job: Any, identifier: str, run: str) -> None:
    """Record that a SLURM job works on a job's outputs, or on those of all jobs of a group."""
    for member in members(job):
        record = _record_of(member)
        record.parent.mkdir(parents=True, exist_ok=True)
        part = record.with_suffix(".part")
        part.write_text(json.dumps({"job": identifier, "run": run}))
        part.replace(record)


def noted(member: Any) -> Submission | None:
    """The last submission of a job that is no group; None where there was none."""
    record = _record_of(member)
    try:
        content = json.loads(record.read_text())
        return Submission(content["job"], content["run"], record.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finished_since(member: Any) -> bool:
    """Whether all outputs of a job are there and none is older than its last submission."""
    submission = noted(member)
    try:
        times = [Path(path).stat().st_mtime for path in outputs_of(member)]
    except OSError:
        return False
    return submission is None or all(time >= submission.time for time in times)


def _record_of(member: Any) -> Path:
    return _FOLDER / f"{identity(member)}.json"

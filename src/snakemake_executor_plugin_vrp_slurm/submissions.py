"""Records of the last submission of every job of the workflow: one small file each.

A record is written before a job is submitted and removed when a later run finds that Snakemake has
recorded the job's end. Where Snakemake was killed, the records tell the next run which jobs may
still be in the queue, and which tables were finished without Snakemake.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(".snakemake", "slurm_jobs")


class Submission(NamedTuple):
    """The last submission of one job of the workflow."""

    slurm_id: str
    """SLURM's id of the job; empty where Snakemake was killed before it knew it."""
    run: str
    """Name of the run that submitted it; all its SLURM jobs have this name."""
    key: str
    """End of the SLURM job's comment: the key of the job, or of the group it was submitted in."""
    rule: str
    model: str
    """The job's model; empty where it is of all models."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    group_outputs: tuple[str, ...]
    """Outputs of all jobs that were submitted together."""
    time: float
    """When, by the clock of the file system that the outputs are on, in seconds."""


def members(job: Any) -> list[Any]:
    """Return the jobs of a group; of a job that is no group, the job itself."""
    return list(job.jobs) if job.is_group() else [job]


def outputs_of(job: Any) -> list[str]:
    """Return the declared outputs of a job; of a group, also those that only its jobs read."""
    return sorted({str(path) for member in members(job) for path in member.output})


def job_key(job: Any) -> str:
    """Return a job's unique key: SHA-256 of its output paths, shortened to 32 digits."""
    return _digest(outputs_of(job))


def record_submission(job: Any, run: str) -> None:
    """Record that a job, or every job of a group, is about to be submitted.

    Before SLURM has it: whenever Snakemake is killed, the next run knows of the job.
    """
    for member in members(job):
        outputs = outputs_of(member)
        _write(
            Submission(
                slurm_id="",
                run=run,
                key=job_key(job),
                rule=member.rule.name,
                model=member.wildcards.get("model", ""),
                inputs=tuple(str(path) for path in member.input),
                outputs=tuple(outputs),
                group_outputs=tuple(outputs_of(job)),
                time=_time_at(Path(outputs[0]).parent),
            )
        )


def record_slurm_id(job: Any, slurm_id: str) -> None:
    """Add SLURM's id to the record; the time stays that of before the submission."""
    for member in members(job):
        if (submission := last_submission(member)) is not None:
            _write(submission._replace(slurm_id=slurm_id))


def last_submission(member: Any) -> Submission | None:
    """Return the last submission of a job that is no group; None where none is recorded."""
    return _read(_path(outputs_of(member)))


def pending_submissions() -> Iterator[Submission]:
    """Yield every submission whose end is not known to be recorded by Snakemake."""
    for path in sorted(FOLDER.glob("*.json")):
        if (submission := _read(path)) is not None:
            yield submission


def drop_record(submission: Submission) -> None:
    """Remove the record of a job whose end Snakemake has recorded."""
    _path(submission.outputs).unlink(missing_ok=True)


def has_finished(member: Any) -> bool:
    """Whether all outputs of a job exist and none is older than its last submission."""
    submission = last_submission(member)
    return submission is not None and all_exist_since(submission.time, submission.outputs)


def all_exist_since(time: float, paths: Iterable[str]) -> bool:
    """Whether all files exist and none is older than a time."""
    try:
        return all(Path(path).stat().st_mtime >= time for path in paths)
    except OSError:
        return False


def _path(outputs: Iterable[str]) -> Path:
    return FOLDER / f"{_digest(outputs)}.json"


def _digest(outputs: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(outputs).encode()).hexdigest()[:32]


def _time_at(folder: Path) -> float:
    """The time by the clock that gives the files of a folder their times."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # a full disk, which the job will meet, too
        return time.time()


def _write(submission: Submission) -> None:
    path = _path(submission.outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(submission._asdict()), encoding="utf-8")
    part.replace(path)


def _read(path: Path) -> Submission | None:
    """Read a record; None where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key in ("inputs", "outputs", "group_outputs"):
            content[key] = tuple(content[key])
        return Submission(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None

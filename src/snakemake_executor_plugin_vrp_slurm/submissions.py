"""What was last submitted to SLURM: one small file for each job of the workflow.

Written when a job is submitted, removed when a later run finds that Snakemake has recorded its end.
Where Snakemake was killed, it tells the next run which jobs may still be in the queue, and which
tables were finished unseen.
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

    job: str
    """SLURM's id; empty where Snakemake was killed before it knew it."""
    run: str
    """Name of the run that submitted it; all its SLURM jobs have it."""
    identity: str
    """What ends the comment of the SLURM job: that of the group where it was submitted in one."""
    rule: str
    model: str
    """The job's model; empty where it is of all models."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    made_together: frozenset[str]
    """Outputs of all jobs that were submitted as one."""
    time: float
    """When, by the clock of the file system that the outputs are on, in seconds."""


def members(job: Any) -> list[Any]:
    """The jobs of a group; a job that is no group is its own only member."""
    return list(job.jobs) if job.is_group() else [job]


def outputs_of(job: Any) -> list[str]:
    """Declared outputs of a job; of a group, also those that only its own jobs read."""
    return sorted({str(path) for member in members(job) for path in member.output})


def identity(job: Any) -> str:
    """What tells a job from all others of the workflow: the digest of its outputs' names."""
    return _digest(outputs_of(job))


def note(job: Any, run: str) -> None:
    """Record that a job, or every job of a group, is about to be submitted.

    Before SLURM has it: whenever Snakemake is killed, the next run knows of the job.
    """
    for member in members(job):
        _write(
            _record_of(member),
            {
                "job": "",
                "run": run,
                "identity": identity(job),
                "time": _time_at(Path(outputs_of(member)[0]).parent),
                "rule": member.rule.name,
                "model": member.wildcards.get("model", ""),
                "inputs": [str(path) for path in member.input],
                "outputs": outputs_of(member),
                "made_together": outputs_of(job),
            },
        )


def note_id(job: Any, identifier: str) -> None:
    """Add the id that SLURM gave; the time stays that of before the submission."""
    for member in members(job):
        record = _record_of(member)
        _write(record, {**json.loads(record.read_text(encoding="utf-8")), "job": identifier})


def noted(member: Any) -> Submission | None:
    """The last submission of a job that is no group; None where there is none to follow."""
    return _read(_record_of(member))


def all_noted() -> Iterator[Submission]:
    """Every submission whose end is not known to be recorded."""
    for record in sorted(FOLDER.glob("*.json")):
        if (submission := _read(record)) is not None:
            yield submission


def forget(submission: Submission) -> None:
    """The job's end is recorded."""
    _record_for(submission.outputs).unlink(missing_ok=True)


def finished_since(member: Any) -> bool:
    """Whether all outputs of a job are there and none is older than its last submission."""
    submission = noted(member)
    return submission is not None and are_written(outputs_of(member), since=submission.time)


def are_written(paths: Iterable[str], *, since: float) -> bool:
    """Whether all files are there and none is older than a time."""
    try:
        return all(Path(path).stat().st_mtime >= since for path in paths)
    except OSError:
        return False


def _record_of(member: Any) -> Path:
    return _record_for(outputs_of(member))


def _record_for(outputs: Iterable[str]) -> Path:
    return FOLDER / f"{_digest(outputs)}.json"


def _digest(outputs: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(outputs).encode()).hexdigest()[:32]


def _time_at(folder: Path) -> float:
    """The time by the clock that gives the files of a folder theirs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # a full disk, which the job will meet, too
        return time.time()


def _write(record: Path, content: dict[str, Any]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(record)


def _read(record: Path) -> Submission | None:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return Submission(
            job=content["job"],
            run=content["run"],
            identity=content["identity"],
            rule=content["rule"],
            model=content["model"],
            inputs=tuple(content["inputs"]),
            outputs=tuple(content["outputs"]),
            made_together=frozenset(content["made_together"]),
            time=float(content["time"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None

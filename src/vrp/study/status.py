"""How far a study is, from its files alone: tables, finished batches, logs, benchmarks.

Nothing is asked of a scheduler, so it works on any machine that sees the folder, while jobs run on
others. What a job's files say:

    done       its tables are there (tables appear only whole)
    running    it has begun, and a workflow holds the study's lock or files have just changed
    failed     its log ends in an error
    stopped    it has begun and nothing shows that it still runs: the next run takes it up
    waiting    nothing is there yet
"""

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.graph import ITEMS, STAGES
from vrp.study.keys import value_of
from vrp.study.layout import Job, StudyLayout
from vrp.study.snakemake_records import is_marked_incomplete
from vrp.text_table import aligned

State = Literal["done", "running", "failed", "stopped", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "stopped", "waiting")

FRESH_SECONDS = 120.0
"""Files that changed so lately belong to a job that runs, whoever started it."""
SILENT_SECONDS = 1800.0
"""A job of a locked study that has shown nothing for so long has stopped."""
_LAST_LINES = 8
_TAIL_BYTES = 8192
_HEAD_BYTES = 65536
# How a log ends where a stage, Python, the shell or SLURM gave up.
_ERROR_WORDS = (
    "Traceback (most recent call last)", "Error:", "Killed", "slurmstepd: error", "oom_kill",
    "CANCELLED", "DUE TO TIME LIMIT",
)  # fmt: skip
# What a line of progress says after the name of the work.
_PROGRESS = re.compile(r": +\d+%.*$")


@dataclass
class JobStatus:
    """What the files say of a job."""

    stage: str
    model: str
    shard: str
    state: State
    batches_done: int = 0
    """Finished batches beside the table, where it is not written yet."""
    batches: int = 0
    """Batches of the shard's plan; 0 where none is known."""
    seconds: float | None = None
    """How long a finished job took."""
    items_per_second: float | None = None
    log: str = ""
    last_lines: list[str] = field(default_factory=list)
    """End of the log of a job that failed or stopped."""


@dataclass
class StageStatus:
    """All jobs of one stage and model."""

    stage: str
    model: str
    jobs: int
    done: int
    running: int
    failed: int
    stopped: int
    waiting: int
    share_done: float
    """Of the items, finished batches included."""
    items_per_second: float | None
    """Of one job."""
    seconds_left: float | None
    """With as many jobs at once as run now (one, where none does)."""


@dataclass
class StudyStatus:
    """All jobs of a study."""

    study: str
    results: str
    locked: bool
    """Whether a workflow holds the lock: it runs, or was killed."""
    stages: list[StageStatus]
    failed: list[JobStatus]
    """Failed and stopped jobs with the end of their logs."""

    def as_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(asdict(self), indent=2)

    def as_text(self) -> str:
        """A table of models × stages, then what failed and where its log is."""
        head = ("model", "stage", "jobs", *STATES, "items/s", "left")
        lines = [
            f"{self.study}: {self.results}{' (a workflow holds the lock)' * self.locked}",
            aligned([head, *(_row(stage) for stage in self.stages)], n_text=2),
        ]
        for job in self.failed:
            name = " ".join(part for part in (job.stage, job.model, job.shard) if part)
            batches = f", {job.batches_done} of {job.batches} batches kept" if job.batches else ""
            lines += ["", f"{job.state}: {name}{batches}; log: {job.log or 'none'}"]
            lines += [f"    {line}" for line in job.last_lines]
        return "\n".join(lines)


def run(study: StudyConfig, *, directory: Path = Path(), now: float | None = None) -> StudyStatus:
    """Read how far a study is.

    Args:
        study: its configuration.
        directory: where the workflow runs; the study's paths are relative to it.
        now: seconds since the epoch; None: the clock.
    """
    moment = time.time() if now is None else now
    results = directory / study.results / study.study
    locked = is_locked(directory, Path(study.results, study.study))
    items = _item_counts(study, results)
    groups: dict[tuple[str, str], list[JobStatus]] = {}
    for job in StudyLayout(study, directory=directory, ahead=True).jobs():
        found = _job_status(job, directory, locked, moment)
        groups.setdefault((job.model, job.rule), []).append(found)
    troubled = [job for jobs in groups.values() for job in jobs if job.state in _TROUBLE]
    return StudyStatus(
        study=study.study,
        results=str(results),
        locked=locked,
        stages=[
            _stage_status(stage, model, jobs, items.get(stage, 0))
            for (model, stage), jobs in groups.items()
        ],
        failed=sorted(troubled, key=lambda job: job.state != "failed"),
    )


_TROUBLE = ("failed", "stopped")


def _item_counts(study: StudyConfig, results: Path) -> dict[str, int]:
    """Items that a model's jobs of each stage ask about."""
    n_items = _n_asked(results / ITEMS.path) or sum(s.count for s in study.sample.splits)
    return {
        stage.name: min(value_of(study, stage.items_key), n_items) if stage.items_key else n_items
        for stage in STAGES
        if stage.runs_model
    }


def _n_asked(path: Path) -> int:
    from vrp.tables.items import read_asked_items

    try:
        return len(read_asked_items(path))
    except InputError:
        return 0


def _job_status(job: Job, directory: Path, locked: bool, now: float) -> JobStatus:
    status = JobStatus(job.rule, job.model, job.shard, "waiting")
    unfinished = any(is_marked_incomplete(path, directory) for path in job.outputs)
    if all(path.is_file() for path in job.outputs) and not unfinished:
        status.state = "done"
        status.seconds = _benchmark_seconds(job.benchmark)
        return status
    side = job.outputs[0].with_name(f".{job.outputs[0].stem}.batches")
    batches = sorted(side.glob("*.batch"))
    planned = _planned(side / "plan.json")
    status.batches_done, status.batches = len(batches), len(planned)
    log = _log_of(job, directory)
    signs = [path.stat().st_mtime for path in (*batches, *([log] if log else []))]
    if not signs:
        return status
    status.log = str(log or "")
    tail = _tail(log) if log else []
    silent = now - max(signs)
    if any(_is_error(line, job.stage) for line in tail):
        status.state = "failed"
    elif silent < FRESH_SECONDS or (locked and silent < SILENT_SECONDS):
        status.state = "running"
        status.items_per_second = _batch_rate(batches, planned)
    else:
        status.state = "stopped"
    if status.state in _TROUBLE:
        status.last_lines = tail[-_LAST_LINES:]
    return status


def _stage_status(stage: str, model: str, jobs: Sequence[JobStatus], n_items: int) -> StageStatus:
    counts = Counter(job.state for job in jobs)
    of_job = n_items / len(jobs)
    shares = [
        1.0 if job.state == "done" else job.batches_done / job.batches if job.batches else 0.0
        for job in jobs
    ]
    rates = [of_job / job.seconds for job in jobs if job.seconds and n_items]
    rates = rates or [job.items_per_second for job in jobs if job.items_per_second]
    rate = sum(rates) / len(rates) if rates else None
    seconds_left = None
    if counts["done"] == len(jobs):
        seconds_left = 0.0
    elif n_items and rate:
        left = (len(jobs) - sum(shares)) * of_job
        seconds_left = left / rate / max(1, counts["running"])
    return StageStatus(
        stage=stage,
        model=model,
        jobs=len(jobs),
        **{state: counts[state] for state in STATES},
        share_done=sum(shares) / len(jobs),
        items_per_second=rate,
        seconds_left=seconds_left,
    )


def is_locked(directory: Path, results: Path) -> bool:
    """Whether a lock of Snakemake names a file of this study."""
    prefix = f"{results}/"
    for lock in directory.glob(".snakemake/locks/*.lock"):
        try:
            if any(line.startswith(prefix) for line in lock.read_text("utf-8").splitlines()):
                return True
        except OSError:
            continue  # given back at this moment
    return False


def _planned(plan: Path) -> list[int]:
    """Items of each planned batch; empty where there is no plan."""
    try:
        return [len(batch) for batch in json.loads(plan.read_text("utf-8"))["plan"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _batch_rate(batches: Sequence[Path], planned: Sequence[int]) -> float | None:
    """Items a second between the first and the last finished batch."""
    if len(batches) < 2 or len(planned) < len(batches):
        return None
    times = sorted(path.stat().st_mtime for path in batches)
    mean = sum(planned) / len(planned)
    return (len(batches) - 1) * mean / (times[-1] - times[0]) if times[-1] > times[0] else None


def _benchmark_seconds(path: Path) -> float | None:
    """Wall-clock seconds of a finished job; None where it was not measured."""
    try:
        head, first = (line.split("\t") for line in path.read_text("utf-8").splitlines()[:2])
        return float(first[head.index("s")]) or None
    except (OSError, ValueError, IndexError):
        return None


def _log_of(job: Job, directory: Path) -> Path | None:
    """The job's own log or, where it is newer, what SLURM's executor kept of it."""
    name = "_".join(part for part in (job.model, job.shard) if part)
    logs = directory / ".snakemake" / "slurm_logs"
    found = [
        path
        for path in (job.log, *(logs / f"rule_{job.rule}" / name).glob("*.log"))
        if path.is_file()
    ]
    # Jobs that share an allocation share a log, and groups of all models a folder.
    outputs = [
        str(path.relative_to(directory) if path.is_relative_to(directory) else path)
        for path in job.outputs
    ]
    for group in logs.glob("group_*"):
        # Named after the group and its rules, of which the sixth and later ones are left out.
        if f"_{job.rule}" in group.name or group.name.endswith("..."):
            found += [path for path in group.rglob("*.log") if _names(path, outputs)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _names(log: Path, outputs: Sequence[str]) -> bool:
    """Whether a log begins with what Snakemake says of a job with these outputs."""
    head = _text_from(log, 0, _HEAD_BYTES)
    return any(output in head for output in outputs)


def _tail(log: Path) -> list[str]:
    """The last lines; of progress, what it said last."""
    text = _text_from(log, -_TAIL_BYTES, _TAIL_BYTES)
    # A progress bar redraws its line in a terminal; in a log, each of its lines stays.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    work = [_PROGRESS.sub("", line) for line in lines]
    last = {name: place for place, name in enumerate(work)}
    kept = [line for place, line in enumerate(lines) if last[work[place]] == place]
    return kept[-2 * _LAST_LINES :]


def _text_from(log: Path, start: int, n_bytes: int) -> str:
    """A part of a log, from its end where `start` is negative; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(start if start >= 0 else max(0, log.stat().st_size + start))
            return file.read(n_bytes).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _is_error(line: str, stage: str) -> bool:
    command = f"vrp {stage.replace('_', '-')}: "
    return line.startswith(command) or any(word in line for word in _ERROR_WORDS)


def _row(stage: StageStatus) -> tuple[str, ...]:
    counts = {state: str(getattr(stage, state)) for state in STATES}
    if 0 < stage.share_done < 1 and stage.items_per_second is not None:
        counts["done"] += f" ({stage.share_done:.0%})"
    rate = "" if stage.items_per_second is None else f"{stage.items_per_second:.3g}"
    return (stage.model or "all", stage.stage, str(stage.jobs), *counts.values(), rate,
            _duration(stage.seconds_left))  # fmt: skip


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds == 0:
        return "" if seconds is None else "-"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"

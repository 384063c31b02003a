"""How long the jobs of a study took, as Snakemake's benchmark files tell."""

import csv
from collections.abc import Iterator
from pathlib import Path

from vrp.errors import InputError

# Snakemake looks at a job twice a second 31 times, then every 30 s (`snakemake/benchmark.py`), and
# processor time is as of the last look. Looking takes a moment itself: rather a look too few.
_FAST_LOOKS, _FAST_INTERVAL, _SLOW_INTERVAL = 31, 0.52, 30.1


def job_seconds(path: Path, *, on_gpu: bool) -> Iterator[float]:
    """Yield what a job took; on a processor, what it would have taken with a core of its own.

    The share of a core that a job got is known from its processor time as of the last look at it.

    Raises:
        InputError: the file is not a Snakemake benchmark file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if not rows:
            raise ValueError("no row")
        for row in rows:
            seconds = float(row["s"])
            busy = row.get("cpu_time", "NA")
            if on_gpu or busy in ("NA", "-", ""):
                yield seconds
            else:
                share = float(busy) / max(_FAST_INTERVAL, _last_look(seconds))
                yield seconds * min(1.0, share) if share > 0 else seconds
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not a Snakemake benchmark file ({error!r}); delete it"
        ) from None


def _last_look(seconds: float) -> float:
    fast = _FAST_LOOKS * _FAST_INTERVAL
    if seconds <= fast:
        return seconds // _FAST_INTERVAL * _FAST_INTERVAL
    return fast + (seconds - fast) // _SLOW_INTERVAL * _SLOW_INTERVAL

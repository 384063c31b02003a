"""How far long work has come: a bar in a terminal, whole lines in a log."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO, TypeVar, cast

from tqdm import tqdm

_T = TypeVar("_T")

# Seconds between the lines in a log, where shorter work says nothing; a terminal is redrawn more
# often.
_LOG_INTERVAL = 10.0
_TERMINAL_INTERVAL = 0.2
_LOG_FORMAT = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


class _Lines:
    """A text file in which what would redraw a line is a line of its own."""

    def __init__(self, file: TextIO) -> None:
        """Wrap a file."""
        self._file = file
        self._last = ""

    def write(self, text: str) -> None:
        """Write the lines of a text that are not blank and say more is done than the last one."""
        for line in map(str.rstrip, text.replace("\r", "\n").split("\n")):
            done = line.split(" [")[0]
            if done and done != self._last:
                self._file.write(f"{line}\n")
                self._last = done

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def progress(total: int | None, description: str, *, unit: str = "item", **options: Any) -> tqdm:
    """Return a bar on stderr that says what is done, the rate and the time left.

    Where stderr is no terminal, work of more than ten seconds gets a line every ten seconds.

    Args:
        total: units of work; None: unknown.
        description: what is done, such as "extract llava".
        unit: what is counted.
        options: further ones of `tqdm.tqdm`.
    """
    return tqdm(total=total, desc=description.strip(), unit=unit, **_place(), **options)


def progress_over(work: Sequence[_T], description: str, *, unit: str) -> Iterable[_T]:
    """Iterate over some work and show, as `progress` does, how far it has come."""
    return cast("Iterable[_T]", tqdm(work, desc=description, unit=unit, **_place()))


def _place() -> dict[str, Any]:
    if sys.stderr.isatty():
        return {"mininterval": _TERMINAL_INTERVAL}
    return {
        "file": _Lines(sys.stderr), "mininterval": _LOG_INTERVAL, "delay": _LOG_INTERVAL,
        "position": 0, "bar_format": _LOG_FORMAT,
    }  # fmt: skip

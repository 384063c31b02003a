"""Measured ratios with their goals, and how several contestants are timed in turn."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Goal(NamedTuple):
    """A bound on a ratio."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound}"

    def verdict(self, value: float) -> dict[str, Any]:
        return {"goal": str(self), "met": self.met(value)}


class Spread(NamedTuple):
    """The median of the rounds, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def judged(self, goal: Goal | None) -> dict[str, Any]:
        """As a dictionary; with a goal, also whether the median meets it."""
        return {**self._asdict(), **(goal.verdict(self.median) if goal else {})}


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_rounds(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    timed: Callable[[Callable[[], object]], float] = seconds,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that only warms up."""
    for work in contestants.values():
        timed(work)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(timed(contestants[name]))
    return times


def ratio_of(times: Mapping[str, list[float]], first: str, *second: str) -> Spread:
    """The first contestant's time over the sum of the others', round by round."""
    sums = [sum(parts) for parts in zip(*(times[name] for name in second), strict=True)]
    return Spread.of(a / b for a, b in zip(times[first], sums, strict=True))


def write_whole(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)

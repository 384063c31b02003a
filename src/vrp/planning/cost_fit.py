"""A cost that begins with a constant and then grows with the work, fitted to a few measurements."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

# Of the cost of the smallest of small jobs or files.
_START_SHARE = 0.85


class Measured(NamedTuple):
    """One measurement."""

    group: str
    """What has a slope of its own, such as a checkpoint."""
    work: float
    """What the cost grows with."""
    cost: float
    """What was measured; positive."""


@dataclass(frozen=True)
class Line:
    """cost = start + slope · work, with a slope for each group."""

    start: float
    """The same for all groups."""
    slopes: Mapping[str, float]
    """By group."""

    def slope(self, group: str) -> float:
        """Return a group's slope; the median of all where it was not measured."""
        return self.slopes[group] if group in self.slopes else median(self.slopes.values())

    def cost(self, group: str, work: float, *, n: int = 1) -> float:
        """Return the cost of `work` in `n` equal parts, each with the constant."""
        return n * self.start + self.slope(group) * work


def fit_line(measured: Iterable[Measured], *, most_start: float = float("inf")) -> Line:
    """Fit a line by least squares of the relative errors, start and slopes not negative.

    A group without two sizes of work cannot tell the constant from the slope: if none can, most of
    the least cost, and at most `most_start`, is taken for the constant.

    Raises:
        ValueError: there is no measurement.
    """
    rows = [row for row in measured if row.cost > 0]
    if not rows:
        raise ValueError("there is nothing to fit")
    groups = sorted({row.group for row in rows})
    if not any(_has_two_sizes(rows, group) for group in groups):
        start = min(most_start, _START_SHARE * min(row.cost for row in rows))
        return Line(start, {group: _slope(rows, group, start) for group in groups})
    from scipy.optimize import nnls

    matrix = [
        [1 / row.cost, *(row.work / row.cost if row.group == group else 0.0 for group in groups)]
        for row in rows
    ]
    # Columns of one size: work may be in bytes.
    scales = [max(abs(line[column]) for line in matrix) or 1.0 for column in range(len(matrix[0]))]
    scaled = [[value / scale for value, scale in zip(line, scales, strict=True)] for line in matrix]
    found = nnls(scaled, [1.0] * len(rows))[0]
    values = [float(value / scale) for value, scale in zip(found, scales, strict=True)]
    return Line(values[0], dict(zip(groups, values[1:], strict=True)))


def _has_two_sizes(rows: Sequence[Measured], group: str) -> bool:
    sizes = [row.work for row in rows if row.group == group]
    return max(sizes) > 1.5 * min(sizes)


def _slope(rows: Sequence[Measured], group: str, start: float) -> float:
    own = [row for row in rows if row.group == group]
    work = sum(row.work for row in own)
    return sum(row.cost - start for row in own) / work if work > 0 else 0.0


@dataclass(frozen=True)
class Power:
    """cost = start + factor · work^exponent, for what repeats itself the more, the more there is.

    Distinct words of a text grow so (Heaps' law), and with them what is left after compression.
    """

    start: float
    """The same for all groups."""
    exponent: float
    """At most 1."""
    factors: Mapping[str, float]
    """By group."""

    def cost(self, group: str, work: float, *, n: int = 1) -> float:
        """Return the cost of `work` in `n` equal parts."""
        known = self.factors.get(group)
        factor = median(self.factors.values()) if known is None else known
        return n * (self.start + factor * (work / n) ** self.exponent)


def fit_power(measured: Iterable[Measured], *, start: float) -> Power:
    """Fit a power of the work by least squares of logarithms; all groups have one exponent.

    Without two sizes of work in any group, the exponent is 1.

    Args:
        measured: work and cost; positive.
        start: the part of the cost that does not grow.

    Raises:
        ValueError: there is no measurement.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for group, work, cost in measured:
        above = math.log(max(cost - start, 0.01 * cost))
        points.setdefault(group, []).append((math.log(work), above))
    if not points:
        raise ValueError("there is nothing to fit")
    centres = {
        group: (fmean(x for x, _ in rows), fmean(y for _, y in rows))
        for group, rows in points.items()
    }
    centred = [
        (x - centres[group][0], y - centres[group][1])
        for group, rows in points.items()
        for x, y in rows
    ]
    spread = sum(x * x for x, _ in centred)
    exponent = 1.0
    if spread > math.log(1.5) ** 2 / 2:
        exponent = min(1.0, max(0.0, sum(x * y for x, y in centred) / spread))
    factors = {group: math.exp(y - exponent * x) for group, (x, y) in centres.items()}
    return Power(start, exponent, factors)

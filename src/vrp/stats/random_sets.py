"""How much random sets, such as sets of neurons, differ: the noise that a chosen set is seen in.

A chosen set that is like the random ones differs from their mean as one of them would. Its items
are theirs, so that the spread between sets holds all that differs between two sets on the same
items, and a t interval over sets has its size whatever the sets' own spread is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from vrp.stats.estimate import LEVEL, Estimate, join_notes

ONE_SET = "one random set: how much sets vary is not known"


class SetSpread(NamedTuple):
    """Standard error of an estimate that comes from how much random sets vary."""

    se: float
    """Of the estimate; NaN for fewer than two sets."""
    df: float
    """Degrees of freedom: the sets but one."""

    @classmethod
    def of_one(cls, effects: ArrayLike) -> "SetSpread":
        """Spread of another set's effect about the mean of k random ones', (k,)."""
        return cls._of(effects, lambda k: 1 + 1 / k)

    @classmethod
    def of_mean(cls, effects: ArrayLike) -> "SetSpread":
        """Spread of the mean of k random sets' effects, (k,)."""
        return cls._of(effects, lambda k: 1 / k)

    @classmethod
    def _of(cls, effects: ArrayLike, factor: Callable[[int], float]) -> "SetSpread":
        values = np.asarray(effects, dtype=np.float64)
        if values.size < 2:
            return cls(math.nan, math.nan)
        return cls(float(values.std(ddof=1)) * math.sqrt(factor(values.size)), values.size - 1.0)

    @property
    def half_width(self) -> float:
        """Of the 95% interval; NaN where it is not known."""
        return self.se * float(stats.t.ppf((1 + LEVEL) / 2, self.df))

    def wider_of(self, se: float, df: float) -> tuple[float, float]:
        """Return the standard error and degrees of freedom of the wider 95% interval.

        Args:
            se: standard error over images.
            df: its degrees of freedom.
        """
        over_images = se * float(stats.t.ppf((1 + LEVEL) / 2, df))
        return (se, df) if over_images >= self.half_width else (self.se, self.df)

    def widened(self, estimate: Estimate) -> Estimate:
        """Return an estimate whose interval is at least as wide as that over sets.

        Without a spread there is no interval: that over images would be too narrow.
        """
        if not math.isfinite(estimate.value):
            return estimate
        if not math.isfinite(self.se):
            note = join_notes(estimate.note, ONE_SET)
            return estimate._replace(low=math.nan, high=math.nan, note=note)
        if not math.isfinite(estimate.low):
            return estimate  # its note says why
        value, half = estimate.value, self.half_width
        return estimate._replace(
            low=min(estimate.low, value - half), high=max(estimate.high, value + half)
        )

    def p_against_none(self, value: float, p_of_items: float) -> float:
        """The larger p-value of no effect: over images, and over sets; NaN where one is."""
        if not math.isfinite(self.se) or math.isnan(p_of_items):
            return math.nan
        if self.se == 0:
            return p_of_items
        return max(p_of_items, 2 * float(stats.t.sf(abs(value) / self.se, self.df)))

    def p_equivalence(self, value: float, p_of_items: float, *, margin: float) -> float:
        """The larger p-value of an effect beyond ± `margin`; NaN where one is."""
        if not math.isfinite(self.se) or math.isnan(p_of_items):
            return math.nan
        if self.se == 0:
            return p_of_items
        return max(p_of_items, float(stats.t.sf((margin - abs(value)) / self.se, self.df)))


def place_among(effect: float, effects: ArrayLike) -> int:
    """Return the place of an effect among those of k random sets, the most harmful first.

    1 to k + 1; below equal ones.
    """
    return 1 + int((np.asarray(effects) <= effect).sum())

"""Proportions with Wilson's score interval."""

import math

from scipy import stats

from vrp.errors import InputError
from vrp.stats.estimate import LEVEL, Estimate, undefined


def wilson(n_successes: int, n: int, *, n_groups: int | None = None) -> Estimate:
    """Share of successes with Wilson's 95% interval (Wilson 1927).

    Args:
        n_successes: successes among the trials.
        n: trials.
        n_groups: images behind the trials, for the record; the interval takes items as independent.

    Raises:
        InputError: successes outside 0…n.
    """
    if not 0 <= n_successes <= n:
        raise InputError(f"successes must lie between 0 and the trials: {n_successes} of {n}")
    groups = n if n_groups is None else n_groups
    if n == 0:
        return undefined(n=0, n_groups=0, method="wilson", note="no items")
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    share = n_successes / n
    shrink = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the exact ends are 0 and 1; rounding must not move them past the share.
    low = 0.0 if n_successes == 0 else max(0.0, centre - half)
    high = 1.0 if n_successes == n else min(1.0, centre + half)
    return Estimate(share, low, high, math.nan, n, groups, "wilson")

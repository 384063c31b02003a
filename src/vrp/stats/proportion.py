"""Proportions: Wilson's score interval, and Korn and Graubard's for items of shared images."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.clusters import ClusteredEstimate, clustered_mean
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


def clustered_share(
    hits: NDArray[np.bool_], codes: NDArray[np.int64], *, n_images: int
) -> Estimate:
    """Share of hits with Korn and Graubard's 95% interval, clustered by image.

    Args:
        hits: (n,)
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
    """
    return share_estimate(clustered_mean(hits, codes, n_images=n_images))


def share_estimate(share: ClusteredEstimate) -> Estimate:
    """Value of a share with Korn and Graubard's 95% interval.

    Clopper–Pearson's interval of the effective number of items, which the clustered variance
    gives (Korn & Graubard 1998); where all or none are hits, of the number of images. So a share
    of 0% or 100% has an interval that is not a point.
    """
    if not share.defined:
        return undefined(n=0, n_groups=0, method="korn-graubard", note="no items")
    value, se = min(1.0, max(0.0, share.value)), share.se
    n_effective = float(share.n_groups)
    if 0 < value < 1 and se > 0:
        t_items, t_images = stats.t.ppf((1 + LEVEL) / 2, [max(share.n - 1, 1), share.n_groups - 1])
        n_effective = min(share.n, value * (1 - value) / se**2 * (t_items / t_images) ** 2)
    low, high = clopper_pearson(value, n_effective)
    return Estimate(
        value, low, high, math.nan, share.n, share.n_groups, "korn-graubard", share.note
    )


def clopper_pearson(share: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of Clopper and Pearson's interval of a share of n, which need not be whole.

    Args:
        share: of the trials that are hits, 0 to 1.
        n: trials, or their effective number.
        level: of the interval.
    """
    tail, hits = (1 - level) / 2, share * n
    low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high

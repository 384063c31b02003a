"""Sums over images, and standard errors that count images rather than items."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from vrp.stats.estimate import Estimate, codes_of


def group_sums(values: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of `values` (n,) over each group; `codes` (n,) number the groups from 0."""
    n_groups = int(codes.max(initial=-1)) + 1
    return np.bincount(codes, weights=values, minlength=n_groups).astype(np.float64)


def n_distinct(codes: NDArray[np.int64]) -> int:
    """Number of groups among `codes` (n,), which number them from 0; without sorting."""
    return int(np.count_nonzero(np.bincount(codes)))


def clustered_se(influence: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Standard error of an estimate from its per-item influence, clustered by group.

    With `estimate − truth ≈ Σ influence`, the sandwich estimator is
    `sqrt(G/(G−1) · Σ_g (Σ_{i in g} influence_i)²)` (Liang & Zeger 1986).

    Args:
        influence: (n,) already divided by the sample size.
        codes: (n,) group number of each item.

    Returns:
        The standard error; NaN with fewer than two groups.
    """
    sums = group_sums(influence, codes)
    n_groups = sums.size
    if n_groups < 2:
        return math.nan
    return math.sqrt(n_groups / (n_groups - 1) * float(sums @ sums))


def clustered_mean(values: ArrayLike, groups: ArrayLike) -> Estimate:
    """Mean over items with its normal 95% interval, clustered by group.

    Args:
        values: (n,) NaN where missing; such items are left out.
        groups: (n,) group of each item.

    Returns:
        The mean, NaN without a value; its interval is NaN with fewer than two groups.
    """
    every = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(every)
    n = int(kept.sum())
    mean = float(every[kept].mean()) if n else math.nan
    codes = codes_of(groups, kept, name="groups")
    half = float(norm.ppf(0.975)) * clustered_se((every[kept] - mean) / max(n, 1), codes)
    n_groups = int(codes.max(initial=-1)) + 1
    return Estimate(mean, mean - half, mean + half, math.nan, n, n_groups, "clustered-normal")

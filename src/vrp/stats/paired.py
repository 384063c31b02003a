"""Paired effects: the same items answered before and after an intervention, in percentage points.

Signs: negative means that the intervention cost accuracy.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.bootstrap import BootstrapEstimate, Resamples, generator
from vrp.stats.estimate import as_labels, take_kept

ENUMERATION_LIMIT = 2**14
"""Sign assignments up to which all of them are listed."""
CONVOLUTION_LIMIT = 200_000
"""Sum of absolute nets up to which the exact distribution is built by convolution."""
PERCENT = 100.0


def mcnemar(n_gained: int, n_lost: int) -> float:
    """Exact McNemar p-value: a two-sided binomial test of the discordant pairs; 1 if none."""
    n_discordant = n_gained + n_lost
    if n_discordant == 0:
        return 1.0
    return float(stats.binomtest(n_gained, n_discordant, 0.5).pvalue)


def _enumerated(nets: NDArray[np.float64], observed: float) -> float:
    sums = np.zeros(1)
    for net in nets:
        sums = np.concatenate([sums + net, sums - net])
    return float(np.mean(np.abs(sums) >= observed * (1 - 1e-9)))


def _convolved(nets: NDArray[np.int64], observed: float) -> float:
    """Exact tail of Σ ±net for whole numbers, one image at a time."""
    total = int(nets.sum())
    probability = np.zeros(2 * total + 1)
    probability[total] = 1.0
    reach = 0
    for net in nets.tolist():
        new = np.zeros_like(probability)
        now = probability[total - reach : total + reach + 1]
        new[total - reach - net : total + reach - net + 1] += now / 2
        new[total - reach + net : total + reach + net + 1] += now / 2
        probability, reach = new, reach + net
    sums = np.abs(np.arange(-total, total + 1))
    return float(min(1.0, probability[sums >= observed].sum()))


def _drawn(nets: NDArray[np.float64], observed: float, seed: str, n_draws: int) -> float:
    random = generator("sign-flip", seed)
    n_beyond, left = 0, n_draws
    while left:
        rows = min(left, 1000)
        signs = random.integers(0, 2, size=(rows, nets.size), dtype=np.int8) * 2.0 - 1.0
        n_beyond += int((np.abs(signs @ nets) >= observed * (1 - 1e-9)).sum())
        left -= rows
    return (n_beyond + 1) / (n_draws + 1)


def sign_flip_test(nets: ArrayLike, *, seed: str, n_draws: int = 10_000) -> float:
    """Two-sided p-value of Σ nets under random signs, one sign an image.

    Exact wherever it can be: all assignments listed up to 2^14 of them, else the distribution
    built by convolution for whole-number nets, else `n_draws` random assignments with one added
    to count and total (Phipson & Smyth 2010). Images with net 0 change nothing.

    Args:
        nets: (n_groups,) net difference of each image; whole numbers where labels are 0 or 1.
        seed: names the random assignments.
        n_draws: how many, where they are random.

    Raises:
        InputError: a net is not finite.
    """
    values = np.asarray(nets, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("sign-flip test: every image needs a finite net difference")
    nonzero = np.sort(np.abs(values[values != 0]))
    observed = abs(float(values.sum()))
    if nonzero.size == 0:
        return 1.0
    if nonzero.size <= math.log2(ENUMERATION_LIMIT):
        return _enumerated(nonzero, observed)
    if (nonzero == np.rint(nonzero)).all() and nonzero.sum() <= CONVOLUTION_LIMIT:
        return _convolved(nonzero.astype(np.int64), observed)
    return _drawn(nonzero, observed, seed, n_draws)


def bootstrap_difference(
    before: ArrayLike, after: ArrayLike, groups: ArrayLike, *, resamples: Resamples
) -> BootstrapEstimate:
    """After minus before in percentage points with its replicates, for macro averages.

    Args:
        before: (n,) 0 or 1, correctness without the intervention.
        after: (n,) 0 or 1, correctness of the same items with it.
        groups: (n,) images.
        resamples: the study's resampled images.

    Raises:
        InputError: lengths differ, no items, labels are not 0 or 1, an unknown image.
    """
    first, second = as_labels(before), as_labels(after)
    if first.shape != second.shape or first.size == 0:
        raise InputError(
            f"a paired effect needs the same items twice: {first.size} before, {second.size} after"
        )
    change = second.astype(float) - first.astype(float)
    codes = resamples.codes(take_kept(groups, np.ones(change.size, dtype=bool), name="groups"))
    n_groups = resamples.group_ids.size
    sums = np.bincount(codes, weights=change, minlength=n_groups)
    counts = np.bincount(codes, minlength=n_groups).astype(np.float64)
    replicates = np.empty(resamples.n_boot)
    for part, weights in resamples.blocks():
        total, n = np.stack([sums, counts]) @ weights.astype(np.float64)
        replicates[part] = np.where(n > 0, total / np.maximum(n, 1.0), math.nan)
    return BootstrapEstimate(
        PERCENT * float(change.mean()),
        PERCENT * replicates,
        change.size,
        int((counts > 0).sum()),
        resamples.key,
    )

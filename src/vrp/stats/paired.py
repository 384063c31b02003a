"""Paired effects: the same items answered before and after an intervention, in percentage points.

Signs: negative means that the intervention cost accuracy.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.bootstrap import Bootstrapped, Resamples, generator
from vrp.stats.clusters import clustered_se, group_sums
from vrp.stats.estimate import Estimate, PointSE, as_labels, codes_of, take_kept

SignFlipMethod = Literal["auto", "enumerate", "convolve", "monte-carlo"]
ENUMERATION_LIMIT = 2**14
"""Sign assignments up to which all of them are listed."""
CONVOLUTION_LIMIT = 200_000
"""Sum of absolute nets up to which the exact distribution is built by convolution."""
PERCENT = 100.0


class PairedEffect(NamedTuple):
    """What an intervention did to accuracy."""

    effect: Estimate
    """After minus before in percentage points; p from the sign-flip test."""
    accuracy_before: float
    """Share right before, 0 to 1."""
    accuracy_after: float
    """Share right after, 0 to 1."""
    n_gained: int
    """Items wrong before and right after."""
    n_lost: int
    """Items right before and wrong after."""
    mcnemar_p: float
    """Exact McNemar p-value, which takes items as independent; for comparison only."""


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


def sign_flip_test(
    nets: ArrayLike, *, seed: str, n_draws: int = 10_000, method: SignFlipMethod = "auto"
) -> float:
    """Two-sided p-value of Σ nets under random signs, one sign an image.

    Exact wherever it can be: all assignments listed up to 2^14 of them, else the distribution
    built by convolution for whole-number nets, else `n_draws` random assignments with one added
    to count and total (Phipson & Smyth 2010). Images with net 0 change nothing.

    Args:
        nets: (n_groups,) net difference of each image; whole numbers where labels are 0 or 1.
        seed: names the random assignments.
        n_draws: how many, where they are random.
        method: `auto`, or force one.

    Raises:
        InputError: a net is not finite, or a forced method cannot serve these nets.
    """
    values = np.asarray(nets, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("sign-flip test: every image needs a finite net difference")
    nonzero = np.sort(np.abs(values[values != 0]))
    observed = abs(float(values.sum()))
    if nonzero.size == 0:
        return 1.0
    whole = bool((nonzero == np.rint(nonzero)).all()) and nonzero.sum() <= CONVOLUTION_LIMIT
    few = nonzero.size <= math.log2(ENUMERATION_LIMIT)
    if method == "auto":
        method = "enumerate" if few else "convolve" if whole else "monte-carlo"
    if method == "enumerate":
        if not few:
            raise InputError(f"{nonzero.size} images are too many to list all sign assignments")
        return _enumerated(nonzero, observed)
    if method == "convolve":
        if not whole:
            raise InputError("only whole-number nets of bounded sum can be convolved exactly")
        return _convolved(nonzero.astype(np.int64), observed)
    return _drawn(nonzero, observed, seed, n_draws)


def _bootstrap_mean(
    values: NDArray[np.float64], groups: ArrayLike, resamples: Resamples
) -> Bootstrapped:
    """Mean over items, bootstrapped over images, in percentage points."""
    kept = np.ones(values.size, dtype=bool)
    codes = resamples.codes(take_kept(groups, kept, name="groups"))
    n_groups = resamples.group_ids.size
    sums = np.bincount(codes, weights=values, minlength=n_groups)
    counts = np.bincount(codes, minlength=n_groups).astype(np.float64)
    replicates = np.empty(resamples.n_boot)
    for part, weights in resamples.blocks():
        total, n = np.stack([sums, counts]) @ weights.astype(np.float64)
        replicates[part] = np.where(n > 0, total / np.maximum(n, 1.0), math.nan)
    return Bootstrapped(
        PERCENT * float(values.mean()),
        PERCENT * replicates,
        values.size,
        int((counts > 0).sum()),
        resamples.key,
    )


def _both(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = as_labels(before), as_labels(after)
    if first.shape != second.shape or first.size == 0:
        raise InputError(
            f"a paired effect needs the same items twice: {first.size} before, {second.size} after"
        )
    return first, second


def bootstrap_difference(
    before: ArrayLike, after: ArrayLike, groups: ArrayLike, *, resamples: Resamples
) -> Bootstrapped:
    """After minus before in percentage points with its replicates, for macro averages.

    Args:
        before: (n,) 0 or 1, correctness without the intervention.
        after: (n,) 0 or 1, correctness of the same items with it.
        groups: (n,) images.
        resamples: the study's resampled images.

    Raises:
        InputError: lengths differ, no items, labels are not 0 or 1, an unknown image.
    """
    first, second = _both(before, after)
    return _bootstrap_mean(second.astype(float) - first.astype(float), groups, resamples)


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: Resamples,
    level: float = 0.95,
) -> PairedEffect:
    """Effect of an intervention on accuracy, with everything that is reported beside it.

    The interval is the image-clustered bootstrap's; p is from the sign-flip test on per-image
    net differences.

    Raises:
        InputError: as `bootstrap_difference`; a bad level.
    """
    first, second = _both(before, after)
    boot = bootstrap_difference(first, second, groups, resamples=resamples)
    change = second.astype(np.float64) - first.astype(np.float64)
    nets = group_sums(change, resamples.codes(groups))
    effect = boot.estimate(level=level)._replace(p=sign_flip_test(nets, seed=resamples.key))
    n_gained, n_lost = int((change > 0).sum()), int((change < 0).sum())
    return PairedEffect(
        effect,
        float(first.mean()),
        float(second.mean()),
        n_gained,
        n_lost,
        mcnemar(n_gained, n_lost),
    )


def clustered_difference(before: ArrayLike, after: ArrayLike, groups: ArrayLike) -> PointSE:
    """After minus before in percentage points with a standard error clustered by image.

    Raises:
        InputError: lengths differ, no items, labels are not 0 or 1.
    """
    first, second = _both(before, after)
    change = PERCENT * (second.astype(np.float64) - first.astype(np.float64))
    codes = codes_of(groups, np.ones(change.size, dtype=bool), name="groups")
    mean = float(change.mean())
    se = clustered_se((change - mean) / change.size, codes)
    return PointSE(mean, se, change.size, int(codes.max()) + 1, "")


def _stack_controls(top: NDArray[np.bool_], controls: ArrayLike) -> NDArray[np.float64]:
    runs = np.asarray(controls)
    if runs.ndim != 2 or runs.shape[0] == 0 or runs.shape[1] != top.size:
        raise InputError(
            f"random controls must be (seeds, {top.size} items), found shape {runs.shape}"
        )
    return np.stack([as_labels(run) for run in runs]).astype(np.float64)


def control_effects(
    before: ArrayLike, controls: ArrayLike, *, groups: ArrayLike, resamples: Resamples
) -> tuple[PairedEffect, ...]:
    """Effect of each random control, one per seed: the control's distribution.

    Args:
        before: (n,) 0 or 1.
        controls: (n_seeds, n) 0 or 1, correctness under each random control.
        groups: (n,) images.
        resamples: the study's resampled images.

    Raises:
        InputError: as `paired_difference`; controls of another shape.
    """
    runs = _stack_controls(as_labels(before), controls)
    return tuple(paired_difference(before, run, groups, resamples=resamples) for run in runs)


def specificity(
    top: ArrayLike,
    controls: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: Resamples,
    level: float = 0.95,
) -> Estimate:
    """Top minus random: what the *choice* of patches or neurons did, in percentage points.

    Item by item, correctness under the top condition minus its mean over the random controls;
    interval and test as for any paired effect. The random controls' own spread over seeds is
    not in this interval; `control_effects` shows it.

    Args:
        top: (n,) 0 or 1, correctness with the chosen patches or neurons removed.
        controls: (n_seeds, n) 0 or 1, with as many at random.
        groups: (n,) images.
        resamples: the study's resampled images.
        level: confidence level.

    Raises:
        InputError: shapes differ, labels are not 0 or 1, an unknown image, a bad level.
    """
    chosen = as_labels(top)
    runs = _stack_controls(chosen, controls)
    n_seeds = runs.shape[0]
    # Times the number of seeds, the differences are whole numbers and the test stays exact.
    scaled = n_seeds * chosen.astype(np.float64) - runs.sum(axis=0)
    boot = _bootstrap_mean(scaled / n_seeds, groups, resamples)
    nets = group_sums(scaled, resamples.codes(groups))
    return boot.estimate(level=level)._replace(p=sign_flip_test(nets, seed=resamples.key))

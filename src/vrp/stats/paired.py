"""Paired effects: the same items answered before and after an intervention, in percentage points.

Signs: negative means that the intervention cost accuracy.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.auroc import MIN_IMAGES
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import ClusteredEstimate, clustered_mean, group_sums
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import LEVEL, Estimate, join_notes
from vrp.stats.proportion import clopper_pearson

ENUMERATION_LIMIT = 2**14
"""Sign assignments up to which all of them are listed."""
CONVOLUTION_LIMIT = 200_000
"""Sum of absolute nets up to which the exact distribution is built by convolution."""
PERCENT = 100.0
FEW_CHANGED = 2 * MIN_IMAGES
"""Images that changed under which intervals and equivalence are exact."""
_ROUNDING = 1e-9


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


@dataclass(frozen=True)
class PairedDifference(ClusteredEstimate):
    """Difference of two measurements of the same items, in percentage points."""

    n_gained: int = 0
    """Images with more right answers than before."""
    n_lost: int = 0
    """Images with fewer."""
    n_effective: float = 0.0
    """Images of equal size that would say as much: n²/Σm² for images of m items."""
    gaining: float = 0.0
    """Answers won in images with more right answers than before, as a share of the items."""
    losing: float = 0.0
    """Answers lost in images with fewer."""

    @property
    def n_changed(self) -> int:
        """Images that changed."""
        return self.n_gained + self.n_lost


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    codes: NDArray[np.int64],
    *,
    n_images: int,
    name: str = "items",
) -> PairedDifference:
    """After minus before in percentage points, clustered by image.

    Args:
        before: (n,) share right without the intervention: 0 or 1, or a mean over runs.
        after: (n,) the same of the same items with it.
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
        name: of the sample of items.

    Raises:
        InputError: lengths differ, or no items.
    """
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if first.shape != second.shape or first.size == 0:
        raise InputError(
            f"a paired effect needs the same items twice: {first.size} before, {second.size} after"
        )
    mean = clustered_mean(PERCENT * (second - first), codes, n_images=n_images, name=name)
    nets = group_sums(second - first, codes)
    items = np.bincount(codes, minlength=len(nets))
    gained, lost = nets > _ROUNDING, nets < -_ROUNDING
    return PairedDifference(
        mean.value, mean.components, mean.n, mean.n_groups, mean.note,
        n_gained=int(gained.sum()), n_lost=int(lost.sum()),
        n_effective=float(items.sum() ** 2 / np.square(items).sum()),
        gaining=float(nets[gained].sum() / items.sum()),
        losing=float(-nets[lost].sum() / items.sum()),
    )  # fmt: skip


def paired_estimate(difference: ClusteredEstimate) -> Estimate:
    """Effect with its 95% interval; under 10 images there is neither interval nor test.

    Where few images changed, their nets say little of how much nets vary. The interval then holds
    every difference of a share of answers won and a share lost, each within its own Clopper–Pearson
    interval of 97.5% of the effective number of images (Korn & Graubard 1998). An image's net lies
    between none and all of its answers, so that its variance is at most that of a whole image won
    or lost with the same mean. The interval is not empty where nothing changed.
    """
    estimate = difference.estimate("clustered-t")
    if not difference.defined:
        return estimate
    if difference.n_groups < MIN_IMAGES:
        note = join_notes(difference.note, f"too few images: {difference.n_groups}")
        return estimate._replace(low=math.nan, high=math.nan, note=note)
    if not (isinstance(difference, PairedDifference) and difference.n_changed < FEW_CHANGED):
        return estimate
    (gain_low, gain_high), (loss_low, loss_high) = (
        clopper_pearson(share, difference.n_effective, level=(1 + LEVEL) / 2)
        for share in (difference.gaining, difference.losing)
    )
    note = join_notes(
        difference.note, f"{difference.n_changed} of {difference.n_groups} images changed"
    )
    return estimate._replace(
        low=min(difference.value, PERCENT * (gain_low - loss_high)),
        high=max(difference.value, PERCENT * (gain_high - loss_low)),
        method="exact",
        note=note,
    )


def paired_equivalence_p(difference: ClusteredEstimate, *, margin: float) -> float:
    """Equivalence test of an effect within ± `margin` percentage points.

    Where few images changed: the chance that so few do where the margin's share of them would.
    """
    if not difference.defined or difference.n_groups < MIN_IMAGES:
        return math.nan
    if isinstance(difference, PairedDifference) and difference.n_changed < FEW_CHANGED:
        n = difference.n_effective
        hits = (difference.gaining + difference.losing) * n
        # The binomial distribution, of a number that need not be whole.
        return float(stats.beta.sf(margin / PERCENT, hits + 1, n - hits)) if hits < n else 1.0
    return equivalence_p(difference, low=-margin, high=margin)

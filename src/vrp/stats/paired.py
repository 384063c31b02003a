"""Paired effects: the same items answered before and after an intervention, in percentage points.

Signs: negative means that the intervention cost accuracy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import (
    MIN_IMAGES,
    POWER,
    TOO_FEW,
    ClusteredEstimate,
    clustered_mean,
    group_sums,
    mean_of,
)
from vrp.stats.estimate import LEVEL, Estimate, join_notes
from vrp.stats.tango import score_equivalence_p, score_interval

ENUMERATION_LIMIT = 2**14
"""Sign assignments up to which all of them are listed."""
CONVOLUTION_LIMIT = 200_000
"""Sum of absolute nets up to which the exact distribution is built by convolution."""
PERCENT = 100.0
FEW_CHANGED = 2 * MIN_IMAGES
"""Changed images at which their own spread and the largest that it may be weigh alike."""
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
    """Difference of two measurements of the same items, in percentage points.

    Interval, equivalence and what can be found are Tango's (1998) of as many pairs as say as much.
    """

    n_gained: int = 0
    """Images with more right answers than before."""
    n_lost: int = 0
    """Images with fewer."""
    n_effective: float = 0.0
    """Pairs, each gained, lost or neither as a whole, that would say as much."""
    gaining: float = 0.0
    """Answers won in images with more right answers than before, as a share of the items."""
    losing: float = 0.0
    """Answers lost in images with fewer."""

    @property
    def n_changed(self) -> int:
        """Images that changed."""
        return self.n_gained + self.n_lost

    @property
    def pairs_df(self) -> float:
        """Degrees of freedom of the images, whether they changed or not."""
        return min(part.df for part in self.components.values())

    def interval_of_pairs(self) -> tuple[float, float]:
        """Return the 95% interval."""
        low, high = score_interval(self.gaining, self.losing, self.n_effective, df=self.pairs_df)
        return PERCENT * low, PERCENT * high

    def p_equivalence(self, margin: float) -> float:
        """Return the p-value of equivalence within ± `margin` percentage points."""
        return score_equivalence_p(
            self.gaining, self.losing, self.n_effective,
            margin=margin / PERCENT, df=self.pairs_df,
        )  # fmt: skip

    def resolvable(self, alpha: float) -> float:
        """Return the smallest effect that a test at `alpha` finds with 80% power."""
        cancelling = min(self.gaining, self.losing)
        return smallest_paired_effect(self.n_effective, cancelling, self.pairs_df, alpha=alpha)


def smallest_paired_effect(n: float, cancelling: float, df: float, *, alpha: float) -> float:
    """Smallest effect, in percentage points, that a test at `alpha` finds with 80% power.

    Beyond the changes that cancel, which stay as they are, every change of an answer that makes up
    the effect varies, too: with none that cancel, some eight pairs must change.

    Args:
        n: pairs, or their effective number.
        cancelling: share of the pairs that is gained, and as large a share that is lost.
        df: degrees of freedom of Student's t.
        alpha: level of the test, after correction for the number of tests.
    """
    one = float(stats.t.ppf([1 - alpha / 2, POWER], df).sum()) ** 2 / n
    return PERCENT * min(1.0, (one + math.sqrt(one * one + 8 * one * cancelling)) / 2)


@dataclass(frozen=True)
class PairedMean(ClusteredEstimate):
    """Unweighted mean of paired differences, such as those of several tasks."""

    parts: tuple[PairedDifference, ...] = ()

    def interval_of_pairs(self) -> tuple[float, float]:
        """Return the 95% interval that those of the parts give (MOVER, Zou & Donner 2008).

        Where the parts share images, it is at least as wide as that of the clustered variance.
        """
        ends = [part.interval_of_pairs() for part in self.parts]
        below = [part.value - low for part, (low, _) in zip(self.parts, ends, strict=True)]
        above = [high - part.value for part, (_, high) in zip(self.parts, ends, strict=True)]
        low, high = self.interval() if math.isfinite(self.se) else (self.value, self.value)
        return (
            min(low, self.value - math.hypot(*below) / len(below)),
            max(high, self.value + math.hypot(*above) / len(above)),
        )

    def p_equivalence(self, margin: float) -> float:
        """Return the p-value of equivalence within ± `margin`, by the interval's half width."""
        low, high = self.interval_of_pairs()
        df = min(part.pairs_df for part in self.parts)
        se = max(high - self.value, self.value - low) / float(stats.t.ppf((1 + LEVEL) / 2, df))
        return float(stats.t.sf((margin - abs(self.value)) / se, df))

    def resolvable(self, alpha: float) -> float:
        """Return the smallest effect that a test at `alpha` finds with 80% power."""
        return math.hypot(*(part.resolvable(alpha) for part in self.parts)) / len(self.parts)


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
    gaining = float(nets[gained].sum() / items.sum())
    losing = float(-nets[lost].sum() / items.sum())
    n_changed = int(gained.sum() + lost.sum())
    return PairedDifference(
        mean.value, mean.components, mean.n, mean.n_groups, mean.note,
        n_gained=int(gained.sum()), n_lost=int(lost.sum()),
        n_effective=_effective(items, n_changed, gaining, losing, mean.se / PERCENT),
        gaining=gaining, losing=losing,
    )  # fmt: skip


def _effective(
    items: NDArray[np.int64], n_changed: int, gaining: float, losing: float, se: float
) -> float:
    """Effective number of pairs.

    Few changed images do not show how much their nets vary. They count as if each image changed as
    a whole, n²/Σm² for images of m items (Korn & Graubard 1998); the more of them changed, the more
    weighs what their clustered standard error says.

    Args:
        items: (n_images,) items of each image.
        n_changed: images that changed.
        gaining: share of the items won.
        losing: share lost.
        se: clustered standard error of their difference; NaN where nothing changed.
    """
    as_wholes = float(np.square(items).sum() / items.sum() ** 2)
    spread = gaining + losing - (gaining - losing) ** 2
    if not (n_changed and se > 0 and spread > 0):
        return 1 / as_wholes
    weight = n_changed / (n_changed + FEW_CHANGED)
    return 1 / (weight * se**2 / spread + (1 - weight) * as_wholes)


def mean_over_tasks(
    parts: Mapping[str, PairedDifference], *, n_groups: int
) -> PairedDifference | PairedMean:
    """Unweighted mean of the tasks' differences; tasks on under 10 images are left out and named.

    Args:
        parts: task → its difference, over the same numbering of images.
        n_groups: images of the tasks that are used; tasks may share some.
    """
    small = {name: part for name, part in parts.items() if part.n_groups < MIN_IMAGES}
    used = {name: part for name, part in parts.items() if name not in small}
    left_out = ", ".join(f"{name} ({_too_few(part)})" for name, part in small.items())
    note = f"left out of the average: {left_out}" if left_out else ""
    if len(used) == 1:
        [only] = used.values()
        return replace(only, note=join_notes(only.note, note))
    mean = mean_of(used, n_groups=n_groups)
    return PairedMean(
        mean.value, mean.components, mean.n, mean.n_groups, join_notes(mean.note, note),
        parts=tuple(used.values()),
    )  # fmt: skip


def paired_estimate(difference: PairedDifference | PairedMean) -> Estimate:
    """Effect with its 95% interval; under 10 images there is neither interval nor test."""
    estimate = difference.estimate("tango")
    if not difference.defined or difference.n_groups < MIN_IMAGES:
        return estimate
    low, high = difference.interval_of_pairs()
    return estimate._replace(low=low, high=high, note=difference.note)


def paired_equivalence_p(difference: PairedDifference | PairedMean, *, margin: float) -> float:
    """Equivalence test of an effect within ± `margin` percentage points; NaN under 10 images."""
    if not difference.defined or difference.n_groups < MIN_IMAGES:
        return math.nan
    return difference.p_equivalence(margin)


def _too_few(difference: ClusteredEstimate) -> str:
    return f"{TOO_FEW} images: {difference.n_groups}"

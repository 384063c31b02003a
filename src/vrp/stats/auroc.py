"""Area under the ROC curve: the chance that a right item outranks a wrong one, ties half.

With `strata`, only pairs from the same stratum are compared. Out-of-fold scores want this: the
models of two folds differ in their base rate, and comparing across them pulls the AUROC of a
worthless probe *below* 0.5 (Airola et al. 2011); pass the fold of each item as `strata`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit

from vrp.stats.bootstrap import BootstrapEstimate, Resamples
from vrp.stats.clusters import (
    MIN_IMAGES,
    TOO_FEW,
    ClusteredEstimate,
    Component,
    difference,
    logit_end,
    mean_of,
    n_distinct,
    not_estimated,
)
from vrp.stats.equivalence import equivalence_test
from vrp.stats.estimate import (
    LEVEL,
    Estimate,
    as_labels,
    codes_of,
    complete_sample,
    join_notes,
    take_kept,
)

UNSEEN = 0.2
"""Images ranked by chance that the cautious end of an interval allows for; calibrated in
`benchmarks/inference.py`."""
ONE_CLASS = "no pair of a right and a wrong item"
CONSTANT = "the signal has one value only"
# An average of strata that are all separated may miss 1 by this much.
_ROUNDING = 1e-12
# The smallest p-value of an equivalence that is looked for.
_LEAST_P = 1e-9
# Distances on the scale of the logit at which samples that tell more are looked at.
_LOGITS_ABOVE = np.linspace(0.0, 9.0, 181)
# Items whose weights are in memory at once: a piece of all replicates of a block fits the cache.
_PIECE = 512


class _Stratum(NamedTuple):
    """Positives and negatives of one stratum, ranked against each other."""

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]  # in ascending order of the signal
    below: NDArray[np.int64]  # negatives under each positive
    not_above: NDArray[np.int64]  # negatives under or level with each positive


def _rank(
    signal: NDArray[np.float64], correct: NDArray[np.bool_], codes: NDArray[np.int64]
) -> list[_Stratum]:
    ranked = []
    order = np.argsort(signal)  # the order among equals does not matter
    for stratum in range(int(codes.max(initial=-1)) + 1):
        here = order[codes[order] == stratum]
        positive, negative = here[correct[here]], here[~correct[here]]
        if positive.size and negative.size:
            values = signal[negative]
            below = np.searchsorted(values, signal[positive], side="left")
            not_above = np.searchsorted(values, signal[positive], side="right")
            ranked.append(_Stratum(positive, negative, below, not_above))
    return ranked


def _value(ranked: list[_Stratum]) -> float:
    n_pairs = sum(s.positive.size * s.negative.size for s in ranked)
    if n_pairs == 0:
        return math.nan
    return sum(float((s.below + s.not_above).sum()) / 2 for s in ranked) / n_pairs


def auroc(signal: ArrayLike, correct: ArrayLike, *, strata: ArrayLike | None = None) -> float:
    """AUROC with ties counted half; NaN where there is no pair of a right and a wrong item.

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped).
        correct: (n,) 0 or 1.
        strata: (n,) compare only within; the mean is over pairs.

    Raises:
        InputError: lengths differ or labels are not 0 or 1.
    """
    sample = complete_sample(signal, correct)
    codes = codes_of(strata, sample.kept, name="strata")
    return _value(_rank(sample.signal, sample.correct, codes))


class _Placement(NamedTuple):
    """Per-item influence on an AUROC."""

    value: float
    influence: NDArray[np.float64]  # (n,) divided by the number of pairs
    paired: NDArray[np.bool_]  # (n,) the item is in some pair


def _placements(signal: NDArray[np.float64], correct: NDArray, codes: NDArray) -> _Placement:
    ranked = _rank(signal, correct, codes)
    value = _value(ranked)
    influence = np.zeros(signal.size)
    paired = np.zeros(signal.size, dtype=bool)
    for s in ranked:
        wins = (s.below + s.not_above) / 2
        # Seen from a negative: the positives above it, by the same counting from the other side.
        values = signal[s.positive]
        under = np.searchsorted(values, signal[s.negative], side="left")
        upto = np.searchsorted(values, signal[s.negative], side="right")
        losses = s.positive.size - (under + upto) / 2
        influence[s.positive] = wins - value * s.negative.size
        influence[s.negative] = losses - value * s.positive.size
        paired[s.positive] = paired[s.negative] = True
    n_pairs = sum(s.positive.size * s.negative.size for s in ranked)
    return _Placement(value, influence / max(n_pairs, 1), paired)


def too_few(correct: NDArray[np.bool_], codes: NDArray[np.int64]) -> str:
    """Reason why a cell is too small for an estimate; empty where it is large enough.

    Args:
        correct: (n,) items of the cell.
        codes: (n,) their images.
    """
    reasons = []
    for label, name in ((False, "wrong"), (True, "right")):
        images = codes[correct == label]
        if (n_images := n_distinct(images)) < MIN_IMAGES:
            on = f" on {n_images} images" if n_images < images.size else ""
            reasons.append(f"{TOO_FEW} {name} answers: {images.size}{on}")
    return join_notes(*reasons)


def clustered_auroc(
    signal: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    *,
    n_images: int,
    name: str,
    folds: ArrayLike | None = None,
) -> ClusteredEstimate:
    """AUROC of one cell with the influence of every image; undefined where the cell is too small.

    DeLong, DeLong & Clarke-Pearson 1988, by midranks in O(n log n) as Sun & Xu 2014, for several
    items an image as Obuchowski 1997. Its two components are the right and the wrong items.

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped, counted).
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
        name: of the cell; names the components.
        folds: (n,) compare only within; None: all with all.

    Raises:
        InputError: lengths differ or labels are not 0 or 1.
    """
    sample = complete_sample(signal, correct)
    images = take_kept(codes, sample.kept, name="groups")
    n, n_groups = sample.signal.size, n_distinct(images)
    if reason := too_few(sample.correct, images):
        return not_estimated(join_notes(sample.note, reason), n=n, n_groups=n_groups)
    within = codes_of(folds, sample.kept, name="folds")
    place = _placements(sample.signal, sample.correct, within)
    if not math.isfinite(place.value):
        return not_estimated(join_notes(sample.note, ONE_CLASS), n=n, n_groups=n_groups)
    components = {}
    for label, kind in ((True, "right"), (False, "wrong")):
        here = place.paired & (sample.correct == label)
        components[f"{name}/{kind}"] = Component.of_items(
            place.influence[here], images[here], n_images
        )
    note = sample.note
    if (sample.signal == sample.signal[0]).all():
        note = join_notes(note, CONSTANT)
    null_se = _null_se(sample.signal, sample.correct, within)
    return ClusteredEstimate(place.value, components, n, n_groups, note, null_se)


def _null_se(
    signal: NDArray[np.float64], correct: NDArray[np.bool_], folds: NDArray[np.int64]
) -> float:
    """Standard error where signal and correctness are independent, as Mann & Whitney 1947.

    Ties are corrected for; items are taken as independent.
    """
    variance, n_pairs = 0.0, 0
    for fold in range(int(folds.max(initial=-1)) + 1):
        here = folds == fold
        n, n_right = int(here.sum()), int(correct[here].sum())
        pairs = n_right * (n - n_right)
        if pairs:
            ties = np.unique(signal[here], return_counts=True)[1].astype(np.float64)
            variance += pairs / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1)))
            n_pairs += pairs
    return math.sqrt(variance) / n_pairs if n_pairs else math.nan


def van_elteren_weight(n_right: float, n_wrong: float) -> float:
    """Weight of a stratum's AUROC, optimal for an effect that all strata share.

    Van Elteren 1960: each stratum's rank sum is divided by its size plus one.
    """
    return n_right * n_wrong / (n_right + n_wrong + 1)


def stratified_auroc(
    signal: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    strata: ArrayLike,
    *,
    n_images: int,
    folds: ArrayLike | None = None,
) -> ClusteredEstimate:
    """AUROC within strata, combined with van Elteren's weights; small strata are left out.

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped, counted).
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        strata: (n,) name of each item's stratum.
        n_images: images of the study.
        folds: (n,) within a stratum, compare only items of one fold; None: all with all.

    Raises:
        InputError: lengths differ or labels are not 0 or 1.
    """
    values, labels, names = np.asarray(signal), as_labels(correct), np.asarray(strata)
    within = None if folds is None else np.asarray(folds)
    parts, weights = {}, []
    for name in np.unique(names).tolist():
        here = names == name
        parts[str(name)] = clustered_auroc(
            values[here], labels[here], codes[here], n_images=n_images, name=str(name),
            folds=None if within is None else within[here],
        )  # fmt: skip
        kept = labels[here & ~np.isnan(values)]
        weights.append(van_elteren_weight(int(kept.sum()), int((~kept).sum())))
    n_groups = n_distinct(codes[~np.isnan(values)])
    return mean_of(parts, n_groups=n_groups, weights=weights)


class _Cells(NamedTuple):
    """Cells of an AUROC, such as its strata."""

    weights: NDArray[np.float64]
    """(k,) of each cell's AUROC."""
    n_rarer: NDArray[np.float64]
    """(k,) images of the rarer kind of answer."""
    sizes: list[list[int]]
    """Images of the right and of the wrong items of each."""

    @property
    def n_effective(self) -> float:
        """Images of the rarer kind of one cell that would say as much."""
        return float(1 / (self.weights**2 / self.n_rarer).sum())


def _cells(estimate: ClusteredEstimate) -> _Cells:
    sizes: dict[str, list[int]] = {}
    weights: dict[str, float] = {}
    for name, component in estimate.components.items():
        cell = name.rpartition("/")[0]
        sizes.setdefault(cell, []).append(component.n_groups)
        weights[cell] = component.weight
    n_rarer = np.array([min(of_cell) for of_cell in sizes.values()], dtype=np.float64)
    return _Cells(np.array(list(weights.values())), n_rarer, list(sizes.values()))


def auroc_estimate(estimate: ClusteredEstimate) -> Estimate:
    """Value, 95% interval and p-value against 0.5, also where nothing varies.

    The interval is Student's t on the scale of the logit, so that it stays within 0 and 1. Its
    end nearer to 0.5 allows for `UNSEEN` of one more image of the rarer kind of answer in each
    cell, ranked by chance: a few placements close to the end of the scale do not show the tail that
    they have. So close to the end of the scale that the nearer end cannot miss, the other end takes
    all 5%: half of them would make an interval of 97.5% and more. Where nearly all items have one
    value, the interval is no shorter than Wilson's of so many images of the rarer kind.

    Where right and wrong answers are separated without exception there is no variance: the
    interval is then Clopper–Pearson's, of as many trials as images of the rarer kind of answer,
    and p is the chance that randomly permuted labels separate them as well.
    """
    if _is_separated(estimate):
        return _separated(estimate)
    found = estimate.estimate("clustered-delong", null=0.5, low=0.0, high=1.0)
    if not math.isfinite(found.low):
        return found
    low, high = _equal_tailed(estimate, LEVEL)
    one_sided = float(stats.t.ppf(LEVEL, estimate.df)) * estimate.se
    value = max(found.value, 1 - found.value)
    bound = max(float(logit_end(value, one_sided)), _highest_near_end(estimate))
    if found.value > 0.5:
        return found._replace(low=low, high=min(high, bound))
    return found._replace(low=max(low, 1 - bound), high=high)


def auroc_equivalence_p(estimate: ClusteredEstimate, *, margin: float) -> float:
    """p-value of the equivalence test of an AUROC with 0.5, also of a constant signal.

    The standard error is no smaller than where a share of the rarer answers that makes 0.5 ±
    `margin` is ranked at an end, and the rest is level with the others: few answers with one value
    do not show that no other would have another.

    Args:
        estimate: the AUROC.
        margin: distance from 0.5 that still counts as none.
    """
    if not estimate.defined or estimate.n_groups < MIN_IMAGES:
        return math.nan
    n_effective = _cells(estimate).n_effective
    se = math.sqrt(margin * (0.5 - margin) / n_effective)
    df = n_effective - 1
    if estimate.se >= se:  # NaN is not
        se, df = estimate.se, estimate.df
    return equivalence_test(estimate.value - 0.5, se, df, low=-margin, high=margin)


def _is_separated(estimate: ClusteredEstimate) -> bool:
    return estimate.defined and min(estimate.value, 1 - estimate.value) < _ROUNDING


def _equal_tailed(estimate: ClusteredEstimate, level: float) -> tuple[float, float]:
    """Interval that may miss by as much on either side, wherever the estimate is."""
    cells = _cells(estimate)
    if _is_separated(estimate):
        end = _separated_end(estimate, level)
        return (end, 1.0) if estimate.value > 0.5 else (0.0, 1 - end)
    varies = math.isfinite(estimate.se)
    t = float(stats.t.ppf((1 + level) / 2, estimate.df if varies else cells.n_effective - 1))
    # Wilson's interval of a share of 0 or 1, for items that could lie at an end of the scale.
    least = min(estimate.value, 1 - estimate.value) * t**2 / (cells.n_effective + t**2)
    low, high = estimate.value - least, estimate.value + least
    if not varies:
        return low, high
    ends = estimate.interval(low=0.0, high=1.0, level=level)
    value = max(estimate.value, 1 - estimate.value)
    near = float(_near_end(estimate, np.array([value]), np.array([estimate.se]), level)[0])
    if estimate.value > 0.5:
        return min(low, ends[0], near), max(high, ends[1])
    return min(low, ends[0]), max(high, ends[1], 1 - near)


def _near_end(
    estimate: ClusteredEstimate,
    value: NDArray[np.float64],
    se: NDArray[np.float64],
    level: float = LEVEL,
) -> NDArray[np.float64]:
    """End nearer to 0.5 of the interval of a sample of this size that has `value` and `se`.

    Args:
        estimate: gives the images and the degrees of freedom.
        value: (k,) from 0.5 to below 1.
        se: (k,) standard error.
        level: of the interval.
    """
    weights, n_rarer, _ = _cells(estimate)
    shares = UNSEEN / (n_rarer + UNSEEN)
    variance = float((weights**2 * shares * (1 - shares) / (n_rarer + UNSEEN)).sum())
    distance = value - 0.5
    t = float(stats.t.ppf((1 + level) / 2, estimate.df))
    centre = value - float(weights @ shares) * distance
    return logit_end(centre, -t * np.hypot(se, distance * math.sqrt(variance)))


def _highest_near_end(estimate: ClusteredEstimate) -> float:
    """The end nearer to 0.5 is at most this in samples of this size and this shape.

    Of the same shape are samples whose standard error is the same on the scale of the logit; a
    sample that is separated has Clopper–Pearson's end.
    """
    value = max(estimate.value, 1 - estimate.value)
    higher = expit(logit(value) + _LOGITS_ABOVE)
    higher = higher[higher < 1 - _ROUNDING]
    se = estimate.se * higher * (1 - higher) / (value * (1 - value))
    return max(float(_near_end(estimate, higher, se).max()), _separated_end(estimate, LEVEL))


def auroc_difference(first: ClusteredEstimate, second: ClusteredEstimate) -> Estimate:
    """`first − second` of AUROCs over the same images, with interval and p-value against none.

    The interval follows from those of both and their correlation (MOVER, Zou 2007), so that near
    the end of the scale it is as lopsided as they are; it is at least Student's t one.
    """
    found = difference(first, second).estimate("clustered-delong", null=0.0)
    if not math.isfinite(found.low):
        return found
    low, high = _difference_ends(first, second, LEVEL)
    return found._replace(low=low, high=high)


def difference_equivalence_p(
    first: ClusteredEstimate, second: ClusteredEstimate, *, margin: float
) -> float:
    """p-value of the equivalence test of two AUROCs: that of the interval of their difference.

    At p, the interval that misses by p on either side just lies within the margin.

    Args:
        first: an AUROC.
        second: another, over the same images.
        margin: difference that still counts as none.
    """
    gap = difference(first, second)
    if not math.isfinite(gap.estimate("").low):
        return math.nan

    def outside(log_p: float) -> float:
        low, high = _difference_ends(first, second, 1 - 2 * math.exp(log_p))
        return max(-low, high) - margin

    ends = math.log(_LEAST_P), math.log(0.499)
    if outside(ends[1]) > 0:
        return 1.0
    return math.exp(brentq(outside, *ends)) if outside(ends[0]) > 0 else _LEAST_P


def _difference_ends(
    first: ClusteredEstimate, second: ClusteredEstimate, level: float
) -> tuple[float, float]:
    gap = difference(first, second)
    plain = gap.interval(level=level)
    one, other = _equal_tailed(first, level), _equal_tailed(second, level)
    apart = first.se**2 + second.se**2
    shared = (apart - gap.se**2) / (2 * first.se * second.se)
    # One that separates all, or is constant, has no variance to share.
    shared = min(1.0, max(-1.0, shared)) if math.isfinite(shared) else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * shared * a * b, 0.0))

    low = gap.value - reach(first.value - one[0], other[1] - second.value)
    high = gap.value + reach(one[1] - first.value, second.value - other[0])
    return min(low, plain[0]), max(high, plain[1])


def _separated_end(estimate: ClusteredEstimate, level: float) -> float:
    """Clopper–Pearson's end of an interval around 1, of images of the rarer kind of answer.

    Of several cells it is the lowest weighted mean of shares that makes it as likely that no image
    of any is misplaced.
    """
    weights, n_rarer, _ = _cells(estimate)
    # Images are not counted once for each stratum.
    trials = n_rarer * min(1.0, estimate.n_groups / n_rarer.sum())
    log_chance = math.log((1 - level) / 2)

    def shares(log_scale: float) -> NDArray[np.float64]:
        return np.minimum(math.exp(log_scale) * trials / weights, 1.0)

    most = math.log(float((weights / trials).max()))
    least = most + log_chance / float(trials.min()) - 50
    scale = brentq(lambda at: float(trials @ np.log(shares(at))) - log_chance, least, most)
    return float(weights @ shares(scale))


def _separated(estimate: ClusteredEstimate) -> Estimate:
    low, high = _equal_tailed(estimate, LEVEL)
    sizes = _cells(estimate).sizes
    p = 2 / math.prod(math.comb(sum(of_cell), min(of_cell)) for of_cell in sizes)
    found = estimate.estimate("exact")
    return found._replace(low=low, high=high, p=min(1.0, p), note=estimate.note)


def _weighted_wins(
    s: _Stratum, weights: NDArray[np.uint8], codes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of the pairs that the right item wins, ties half, and of all pairs: (n_boot,) each.

    Whole numbers throughout, so that the pieces change no digit.
    """
    won, right = np.zeros((2, weights.shape[1]))
    wrong = np.zeros(weights.shape[1])  # weight of the wrong items passed so far
    tied = bool((s.below != s.not_above).any())
    for start in range(0, s.negative.size, _PIECE):
        stop = min(start + _PIECE, s.negative.size)
        under = np.empty((stop - start + 1, weights.shape[1]))
        under[0] = wrong
        np.cumsum(weights[codes[s.negative[start:stop]]], axis=0, dtype=np.float64, out=under[1:])
        under[1:] += wrong
        wrong = under[-1]
        for bound in (s.below, s.not_above) if tied else (s.below,):
            first = int(np.searchsorted(bound, start, side="right")) if start else 0
            last = int(np.searchsorted(bound, stop, side="right"))
            for here in range(first, last, _PIECE):
                some = slice(here, min(here + _PIECE, last))
                mine = weights[codes[s.positive[some]]].astype(np.float64)
                won += np.einsum("ib,ib->b", mine, under[bound[some] - start])
                if bound is s.below:
                    right += mine.sum(axis=0)
    return won / 2 if tied else won, right * wrong


def bootstrap_auroc(
    signal: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: Resamples,
    strata: ArrayLike | None = None,
) -> BootstrapEstimate:
    """AUROC bootstrapped over images.

    The signal is sorted once; in every resample the weight of the wrong items under each right
    item is read from one cumulative sum, which is made and read a piece at a time.

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped, counted).
        correct: (n,) 0 or 1.
        groups: (n,) images, all among those of `resamples`.
        resamples: the study's resampled images.
        strata: (n,) compare only within.

    Raises:
        InputError: lengths differ, labels are not 0 or 1, an unknown image.
    """
    sample = complete_sample(signal, correct)
    codes = resamples.codes(take_kept(groups, sample.kept, name="groups"))
    within = codes_of(strata, sample.kept, name="strata")
    ranked = _rank(sample.signal, sample.correct, within)
    wins, pairs = np.zeros(resamples.n_boot), np.zeros(resamples.n_boot)
    for part, weights in resamples.blocks():
        for s in ranked:
            won, compared = _weighted_wins(s, weights, codes)
            wins[part] += won
            pairs[part] += compared
    # A resample without a pair, as where it drew right answers only, leaves the AUROC undefined.
    with np.errstate(invalid="ignore"):
        replicates = np.where(pairs > 0, wins / np.maximum(pairs, 1.0), math.nan)
    value = _value(ranked)
    note = sample.note if math.isfinite(value) else join_notes(sample.note, ONE_CLASS)
    n_groups = n_distinct(codes)
    return BootstrapEstimate(value, replicates, sample.signal.size, n_groups, note)

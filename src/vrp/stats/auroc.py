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


def auroc_estimate(estimate: ClusteredEstimate) -> Estimate:
    """Value, 95% interval and p-value against 0.5, also where nothing varies.

    The interval is Student's t on the scale of the logit, so that it stays within 0 and 1. Its
    end nearer to 0.5 allows for `UNSEEN` of one more image of the rarer kind of answer, ranked by
    chance: a few placements close to the end of the scale do not show the tail that they have.
    So close to the end of the scale that the nearer end cannot miss, the other end takes all 5%:
    half of them would make an interval of 97.5% and more.

    Where right and wrong answers are separated without exception there is no variance: the
    interval is then Clopper–Pearson's, of as many trials as images of the rarer kind of answer,
    and p is the chance that randomly permuted labels separate them as well.
    """
    found = _equal_tailed(estimate)
    if not math.isfinite(found.low) or _is_separated(estimate):
        return found
    one_sided = float(stats.t.ppf(LEVEL, estimate.df)) * estimate.se
    value = max(found.value, 1 - found.value)
    bound = max(float(logit_end(value, one_sided)), _highest_near_end(estimate))
    if found.value > 0.5:
        return found._replace(high=min(found.high, bound))
    return found._replace(low=max(found.low, 1 - bound))


def _is_separated(estimate: ClusteredEstimate) -> bool:
    return estimate.defined and min(estimate.value, 1 - estimate.value) < _ROUNDING


def _equal_tailed(estimate: ClusteredEstimate) -> Estimate:
    """The estimate whose interval may miss by 2.5% on either side, wherever it is."""
    if _is_separated(estimate):
        return _separated(estimate)
    found = estimate.estimate("clustered-delong", null=0.5, low=0.0, high=1.0)
    if not math.isfinite(found.low):
        return found
    value = max(found.value, 1 - found.value)
    near = float(_near_end(estimate, np.array([value]), np.array([estimate.se]))[0])
    if found.value > 0.5:
        return found._replace(low=min(found.low, near))
    return found._replace(high=max(found.high, 1 - near))


def _near_end(
    estimate: ClusteredEstimate, value: NDArray[np.float64], se: NDArray[np.float64]
) -> NDArray[np.float64]:
    """End nearer to 0.5 of the interval of a sample of this size that has `value` and `se`.

    Args:
        estimate: gives the images and the degrees of freedom.
        value: (k,) from 0.5 to below 1.
        se: (k,) standard error.
    """
    n_rarer = sum(map(min, _images_by_stratum(estimate).values()))
    share = UNSEEN / (n_rarer + UNSEEN)
    distance = value - 0.5
    t = float(stats.t.ppf((1 + LEVEL) / 2, estimate.df))
    allowing = np.hypot(se, distance * math.sqrt(share * (1 - share) / (n_rarer + UNSEEN)))
    return np.minimum(logit_end(value, -t * se), logit_end(value - share * distance, -t * allowing))


def _highest_near_end(estimate: ClusteredEstimate) -> float:
    """The end nearer to 0.5 is at most this in samples of this size and this shape.

    Of the same shape are samples whose standard error is the same on the scale of the logit; a
    sample that is separated has Clopper–Pearson's end.
    """
    value = max(estimate.value, 1 - estimate.value)
    higher = expit(logit(value) + _LOGITS_ABOVE)
    higher = higher[higher < 1 - _ROUNDING]
    se = estimate.se * higher * (1 - higher) / (value * (1 - value))
    return max(float(_near_end(estimate, higher, se).max()), _separated_end(estimate))


def auroc_difference(first: ClusteredEstimate, second: ClusteredEstimate) -> Estimate:
    """`first − second` of AUROCs over the same images, with interval and p-value against none.

    The interval follows from those of both and their correlation (MOVER, Zou 2007), so that near
    the end of the scale it is as lopsided as they are; it is at least Student's t one.
    """
    gap = difference(first, second)
    found = gap.estimate("clustered-delong", null=0.0)
    if not math.isfinite(found.low):
        return found
    one, other = _equal_tailed(first), _equal_tailed(second)
    apart = first.se**2 + second.se**2
    shared = (apart - gap.se**2) / (2 * first.se * second.se)
    # One that separates all has no variance to share.
    shared = min(1.0, max(-1.0, shared)) if math.isfinite(shared) else 0.0

    def reach(own: float, others: float) -> float:
        # A constant signal has no interval: its AUROC is 0.5 whatever the items.
        a, b = (end if math.isfinite(end) else 0.0 for end in (own, others))
        return math.sqrt(max(a * a + b * b - 2 * shared * a * b, 0.0))

    low = found.value - reach(one.value - one.low, other.high - other.value)
    high = found.value + reach(one.high - one.value, other.value - other.low)
    return found._replace(low=min(low, found.low), high=max(high, found.high))


def _images_by_stratum(estimate: ClusteredEstimate) -> dict[str, list[int]]:
    """Stratum → images of its right and of its wrong items."""
    sizes: dict[str, list[int]] = {}
    for name, component in estimate.components.items():
        sizes.setdefault(name.rpartition("/")[0], []).append(component.n_groups)
    return sizes


def _separated_end(estimate: ClusteredEstimate) -> float:
    """Clopper–Pearson's end of an interval around 1, of images of the rarer kind of answer."""
    sizes = _images_by_stratum(estimate).values()
    n_trials = min(sum(map(min, sizes)), estimate.n_groups)
    return ((1 - LEVEL) / 2) ** (1 / n_trials)


def _separated(estimate: ClusteredEstimate) -> Estimate:
    sizes = _images_by_stratum(estimate).values()
    reach = _separated_end(estimate)
    low, high = (reach, 1.0) if estimate.value > 0.5 else (0.0, 1.0 - reach)
    p = 2 / math.prod(math.comb(sum(of_stratum), min(of_stratum)) for of_stratum in sizes)
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

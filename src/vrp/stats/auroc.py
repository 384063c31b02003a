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

from vrp.stats.bootstrap import BootstrapEstimate, Resamples
from vrp.stats.clusters import group_sums, n_distinct
from vrp.stats.estimate import (
    LEVEL,
    Estimate,
    codes_of,
    complete_sample,
    join_notes,
    take_kept,
    undefined,
)

ONE_CLASS = "no pair of a right and a wrong item"
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
    """Per-item influence on an AUROC (Σ over right items and Σ over wrong items, apart)."""

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


def _variance(
    influence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    paired: NDArray[np.bool_],
    codes: NDArray[np.int64],
) -> float:
    """Variance of Σ influence by image (Obuchowski 1997); one item an image gives DeLong's."""
    n_groups = int(codes.max(initial=-1)) + 1
    right, wrong = correct & paired, ~correct & paired
    right_sums = group_sums(np.where(right, influence, 0.0), codes)
    wrong_sums = group_sums(np.where(wrong, influence, 0.0), codes)
    n_right, n_wrong = n_distinct(codes[right]), n_distinct(codes[wrong])
    if n_right < 2 or n_wrong < 2:
        return math.nan
    return float(
        right_sums @ right_sums * n_right / (n_right - 1)
        + wrong_sums @ wrong_sums * n_wrong / (n_wrong - 1)
        + 2 * (right_sums @ wrong_sums) * n_groups / (n_groups - 1)
    )


def delong(
    signal: ArrayLike, correct: ArrayLike, *, groups: ArrayLike, strata: ArrayLike | None = None
) -> Estimate:
    """AUROC with DeLong's 95% interval in O(n log n), clustered by image; p against 0.5.

    DeLong, DeLong & Clarke-Pearson 1988, by midranks as Sun & Xu 2014; the variance allows for
    several items an image (Obuchowski 1997).

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped, counted).
        correct: (n,) 0 or 1.
        groups: (n,) images.
        strata: (n,) compare only within.

    Raises:
        InputError: lengths differ or labels are not 0 or 1.
    """
    sample = complete_sample(signal, correct)
    codes = codes_of(groups, sample.kept, name="groups")
    place = _placements(sample.signal, sample.correct, codes_of(strata, sample.kept, name="strata"))
    value = place.value
    nothing = undefined(
        n=sample.signal.size,
        n_groups=int(codes.max(initial=-1)) + 1,
        method="clustered-delong",
        note=sample.note,
    )
    if not math.isfinite(value):
        return nothing._replace(note=join_notes(sample.note, ONE_CLASS))
    variance = _variance(place.influence, sample.correct, place.paired, codes)
    if not variance > 0:  # NaN included
        note = join_notes(sample.note, "no interval: the scores leave no variance to estimate")
        return nothing._replace(value=value, note=note)
    se = math.sqrt(variance)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * se
    return nothing._replace(
        value=value,
        low=max(0.0, value - half),
        high=min(1.0, value + half),
        p=float(2 * stats.norm.sf(abs(value - 0.5) / se)),
    )


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
    return BootstrapEstimate(value, replicates, sample.signal.size, n_groups, resamples.key, note)

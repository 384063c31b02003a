"""Selective prediction in numbers: accuracy at a coverage, and the prediction rejection ratio.

Items are answered in the order of their confidence. Those tied are answered in every order at
once: the expected number of wrong answers grows evenly within a tie. Items without a confidence
come last. With u the coverage at which an item is answered and w(u) the rate of wrong answers
there, the risk at coverage c is ∫₀ᶜ w / c, and the area under that curve is ∫ −w(u) ln u.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import xlogy

from vrp.stats.auroc import too_few
from vrp.stats.clusters import (
    ClusteredEstimate,
    Component,
    n_distinct,
    not_estimated,
    weighted_sum,
)
from vrp.stats.estimate import LEVEL, Estimate, join_notes
from vrp.stats.proportion import share_estimate
from vrp.stats.risk_coverage import risk_coverage, ties_of

COVERAGES = (0.5, 0.8, 0.9)
"""Shares of the items answered at which the accuracy is given."""
# Half the width, in coverage and in items, over which the rate of wrong answers at a coverage is
# taken, unless a tie is wider.
_WINDOW, _WINDOW_ITEMS = 0.05, 10
# Farther from the oracle than the worst order is at any rate of wrong answers that a cell may have.
_FARTHEST = 1e3


class _Curve(NamedTuple):
    """Wrong answers along the coverage; one value an item, in the caller's order."""

    wrong: NDArray[np.float64]
    """(n,) 1 where the answer is wrong."""
    start: NDArray[np.float64]
    """(n,) coverage at which the item's tie begins."""
    end: NDArray[np.float64]
    """(n,) coverage at which it ends."""
    rate: NDArray[np.float64]
    """(n,) share of wrong answers within the tie."""
    later: NDArray[np.float64]
    """(n,) ∫ w(u) / u over the ties that come after it."""


def _curve(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> _Curve:
    order, first, tie, size, rate = ties_of(confidence, correct)
    n = order.size
    start, end = first / n, (first + size) / n
    # The first tie begins at 0, and no tie comes before it that would need its integral.
    over = rate[1:] * np.log(end[1:] / start[1:])
    later = np.append(np.cumsum(over[::-1])[::-1], 0.0)
    of_item = np.empty(n, dtype=np.int64)
    of_item[order] = tie
    wrong = (~correct).astype(np.float64)
    return _Curve(wrong, start[of_item], end[of_item], rate[of_item], later[of_item])


def rejection_ratio(
    confidence: ArrayLike, correct: ArrayLike, codes: NDArray[np.int64], *, n_images: int
) -> ClusteredEstimate:
    """Prediction rejection ratio (PRR, Malinin & Gales 2021) with the influence of every image.

    Of the area between the risk of answering in random order and that of an oracle, which answers
    all wrong ones last, the share that the confidence gains: 1 for the oracle, 0 for chance.
    Undefined where the cell is too small for an AUROC.

    Args:
        confidence: (n,) larger means "more likely right"; NaN: missing.
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
    """
    labels = np.asarray(correct, dtype=bool)
    n, n_groups = labels.size, n_distinct(codes)
    if reason := too_few(labels, codes):
        return not_estimated(reason, n=n, n_groups=n_groups)
    curve = _curve(np.asarray(confidence, dtype=np.float64), labels)
    # Mean of −ln u over the item's tie.
    depth = 1 + (xlogy(curve.start, curve.start) - xlogy(curve.end, curve.end)) / (
        curve.end - curve.start
    )
    wrong_rate, area = float(curve.wrong.mean()), float((curve.wrong * depth).mean())
    # An item also delays all that are answered after it.
    delay = curve.rate * (np.log(curve.end) + depth) + curve.later
    of_area = curve.wrong * depth - delay + wrong_rate - area
    of_rate = curve.wrong - wrong_rate
    reach = _reach(wrong_rate)
    gain = wrong_rate - area
    slope = math.log1p(-wrong_rate) + 1  # how `reach` grows with the rate
    influence = (of_rate - of_area) / reach - gain * slope * of_rate / reach**2
    component = Component.of_items(influence / n, codes, n_images)
    return ClusteredEstimate(gain / reach, {"items": component}, n, n_groups)


def rejection_estimate(estimate: ClusteredEstimate, *, wrong_rate: float) -> Estimate:
    """Value and 95% interval: Student's t on the logarithm of what is missing to the oracle.

    The lower end allows for one more wrong answer, answered at random: few wrong answers do not
    show how early one of them may be answered, and the earliest weigh most.

    Args:
        estimate: of `rejection_ratio`.
        wrong_rate: share of wrong answers.
    """
    found = estimate.estimate("clustered-influence")
    missing = 1 - estimate.value
    if not (math.isfinite(found.low) and missing > 0):
        return found
    # −ln u of a coverage u drawn at random has a mean square of 2.
    unseen = math.sqrt(2) / (estimate.n * _reach(wrong_rate))
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, estimate.df))
    below = quantile * math.hypot(estimate.se, unseen) / missing
    above = quantile * estimate.se / missing
    # Near the oracle, where hardly anything is missing, the logarithm does not reach far enough.
    low = 1 - missing * math.exp(min(below, math.log(_FARTHEST / missing)))
    return found._replace(low=low, high=1 - missing * math.exp(-above))


def _reach(wrong_rate: float) -> float:
    """Area between the risk of answering in random order and that of the oracle."""
    return -(1 - wrong_rate) * math.log1p(-wrong_rate)


def accuracy_at(
    confidence: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    coverage: float,
    *,
    n_images: int,
) -> ClusteredEstimate:
    """Expected accuracy among the most confident items, with the influence of every image.

    Its counts are those of the items that are answered.

    Args:
        confidence: (n,) larger means "more likely right"; NaN: missing.
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        coverage: share of the items answered, in (0, 1].
        n_images: images of the study.
    """
    curve = _curve(np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool))
    return _accuracy_of(curve, codes, coverage, n_images)


def _taken(curve: _Curve, coverage: float) -> NDArray[np.float64]:
    """(n,) how much of each item is answered: a share within the tie at the threshold."""
    return np.clip((coverage - curve.start) / (curve.end - curve.start), 0.0, 1.0)


def _accuracy_of(
    curve: _Curve, codes: NDArray[np.int64], coverage: float, n_images: int
) -> ClusteredEstimate:
    taken = _taken(curve, coverage)
    risk = float((curve.wrong * taken).mean())
    # Where the threshold moves, items of this rate come in or drop out.
    half = max(_WINDOW, _WINDOW_ITEMS / curve.wrong.size)
    near = (curve.start < coverage + half) & (curve.end > coverage - half)
    tied = (curve.start < coverage) & (curve.end >= coverage)
    wide = tied.mean() >= 2 * half
    rate = float(curve.wrong[tied if wide else near].mean())
    of_risk = curve.wrong * taken - risk - rate * (taken - coverage)
    influence = -of_risk / (coverage * curve.wrong.size)
    component = Component.of_items(influence, codes, n_images)
    n_groups = n_distinct(codes[taken > 0])
    n = round(coverage * curve.wrong.size)
    return ClusteredEstimate(1 - risk / coverage, {"items": component}, n, n_groups)


class StratifiedCurve(NamedTuple):
    """Accuracy where the same share of every stratum is answered, at several shares."""

    accuracies: tuple[ClusteredEstimate, ...]
    """One at each coverage; their counts are those of the items that are answered."""
    aurc: float
    """Area under the risk–coverage curve: the strata's, weighted by their items."""


def accuracies_within(
    confidence: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    strata: ArrayLike,
    coverages: Sequence[float],
    *,
    n_images: int,
) -> StratifiedCurve:
    """Expected accuracy among the most confident items of each stratum.

    The threshold is a stratum's own, so that a confidence that only knows easy strata from hard
    ones gains nothing: Σ n_stratum / n · accuracy in the stratum.

    Args:
        confidence: (n,) larger means "more likely right"; NaN: missing, answered last.
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        strata: (n,) stratum of each item.
        coverages: shares of each stratum's items that are answered, in (0, 1].
        n_images: images of the study.
    """
    values, labels = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    of_item = np.asarray(strata)
    members = [np.flatnonzero(of_item == name) for name in np.unique(of_item)]
    curves = [_curve(values[own], labels[own]) for own in members]
    found = []
    for coverage in coverages:
        parts = [
            (own.size / labels.size, _accuracy_of(curve, codes[own], coverage, n_images))
            for own, curve in zip(members, curves, strict=True)
        ]
        answered = [
            codes[own][_taken(curve, coverage) > 0]
            for own, curve in zip(members, curves, strict=True)
        ]
        n = sum(part.n for _, part in parts)
        n_groups = n_distinct(np.concatenate(answered))
        found.append(weighted_sum(parts, n=n, n_groups=n_groups))
    area = (
        sum(own.size * risk_coverage(values[own], labels[own]).aurc for own in members)
        / labels.size
    )
    return StratifiedCurve(tuple(found), float(area))


def selective_estimates(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    codes: NDArray[np.int64],
    *,
    n_images: int,
) -> dict[str, tuple[ClusteredEstimate, Estimate]]:
    """`prr` and `accuracy_at_50`, `_80` and `_90`; none where no item has a confidence.

    Args:
        confidence: (n,) larger means "more likely right"; NaN: missing, answered last.
        correct: (n,)
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
    """
    n_missing = int(np.isnan(confidence).sum())
    if n_missing == len(confidence):
        return {}
    ratio = rejection_ratio(confidence, correct, codes, n_images=n_images)
    found = {"prr": (ratio, rejection_estimate(ratio, wrong_rate=1 - float(np.mean(correct))))}
    for coverage in COVERAGES:
        share = accuracy_at(confidence, correct, codes, coverage, n_images=n_images)
        found[f"accuracy_at_{round(100 * coverage)}"] = (share, share_estimate(share))
    note = f"{n_missing} items without a value are answered last" if n_missing else ""
    return {
        name: (part, made._replace(note=join_notes(made.note, note)))
        for name, (part, made) in found.items()
    }

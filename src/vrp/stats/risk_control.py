"""Thresholds with a guarantee: which confidences may be accepted at a chosen risk.

Learn then Test (Angelopoulos et al. 2021) by fixed-sequence testing: candidate thresholds are
tested from the highest to the lowest, each with the hypothesis that more than a share alpha of the
answers above it is wrong, by the exact binomial tail at level delta; the first that is not rejected
ends the sequence. Then, with probability at least 1 − delta over the calibration items, at most a
share alpha of the accepted answers is wrong. Each alpha is a guarantee of its own.

The candidates are quantiles of the scores and are chosen before any label is seen: given the
scores, the labels are independent, and the binomial tail bounds that of their sum (Hoeffding 1956).
Items must be independent: take one of each image (`one_item_per_group`).
"""

import hashlib
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.clusters import POWER
from vrp.stats.estimate import as_labels

ALPHAS = (0.02, 0.05, 0.1, 0.2)
"""Risks for which thresholds are given."""
DELTA = 0.1
"""Chance that a guarantee may fail, over draws of the calibration items."""
N_CANDIDATES = 100
"""Candidate thresholds, evenly spaced in the number of accepted items."""
# The sequence starts where a risk of this share of alpha is told from alpha with 80% power, so that
# a few wrong answers among the surest do not end it, within these shares of the items.
_RISK_AT_START = 0.5
_LEAST_AT_START, _MOST_AT_START = 0.1, 0.25


class Acceptance(NamedTuple):
    """Calibration items above a threshold."""

    threshold: float
    """Accept answers whose score is at least this."""
    share: float
    """Share of the calibration items that is accepted."""
    n: int
    """Items accepted."""
    n_wrong: int
    """Wrong ones among them."""
    bound: float
    """Upper bound of the risk at confidence 1 − delta (Clopper and Pearson, one-sided)."""


class RiskControl(NamedTuple):
    """Outcome of the search for a threshold at one alpha."""

    alpha: float
    """Greatest share of wrong answers among those accepted."""
    delta: float
    """Chance that the guarantee fails."""
    n: int
    """Calibration items, one of each image; those without a score are never accepted."""
    accepted: Acceptance | None
    """The lowest threshold with the guarantee; None: accept nothing."""
    first: Acceptance | None
    """The first candidate; None where there are too few items for any guarantee."""

    @property
    def reason(self) -> str:
        """Reason why nothing is accepted; empty where something is."""
        if self.accepted is not None:
            return ""
        needed = fewest_items(self.alpha, self.delta)
        if self.first is None:
            return (
                f"too few calibration items with a score: a guarantee of {self.alpha:g} needs "
                f"at least {needed}, one of each image"
            )
        return (
            f"{self.first.n_wrong} of the {self.first.n} surest answers are wrong: the risk may be "
            f"as high as {self.first.bound:.3f}"
        )

    def accepts(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """(n,) whether each answer is accepted, by its score (n,); NaN never is."""
        values = np.asarray(scores, dtype=np.float64)
        if self.accepted is None:
            return np.zeros(values.shape, dtype=bool)
        return values >= self.accepted.threshold


def one_item_per_group(
    ids: Iterable[str], groups: Iterable[str], *, seed: str
) -> NDArray[np.bool_]:
    """(n,) True for one random item of each group, whatever the order of the items.

    Args:
        ids: (n,) name of each item, different within a group.
        groups: (n,) name of its group (image).
        seed: names the draw; with a group's name and an item's it decides.

    Raises:
        InputError: ids and groups differ in number.
    """
    names, images = list(ids), list(groups)
    if len(names) != len(images):
        raise InputError(f"one group per item is needed: {len(images)} for {len(names)} items")
    chosen: dict[str, tuple[bytes, int]] = {}
    for index, (name, group) in enumerate(zip(names, images, strict=True)):
        text = "\x1f".join((seed, group, name)).encode("utf-8")
        drawn = (hashlib.sha256(text).digest(), index)
        chosen[group] = min(drawn, chosen.get(group, drawn))
    found = np.zeros(len(names), dtype=bool)
    found[[index for _, index in chosen.values()]] = True
    return found


def fewest_items(alpha: float, delta: float) -> int:
    """Fewest accepted items, all right, with which a risk above alpha can be ruled out.

    The n for which (1 − alpha)ⁿ ≤ delta.
    """
    _check_levels(alpha, delta)
    # A hair less: a power that equals delta but for rounding is enough.
    return max(1, math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9))


def risk_bound(n_wrong: int, n: int, delta: float) -> float:
    """Upper bound of a risk at confidence 1 − delta (Clopper & Pearson 1934, one-sided).

    It is at most alpha exactly where the binomial tail P(X ≤ n_wrong), X ~ B(n, alpha), is at
    most delta.
    """
    return 1.0 if n_wrong >= n else float(stats.beta.ppf(1 - delta, n_wrong + 1, n - n_wrong))


def control_risk(
    scores: ArrayLike, correct: ArrayLike, *, alpha: float, delta: float = DELTA
) -> RiskControl:
    """Find the lowest threshold above which at most a share alpha of the answers is wrong.

    Args:
        scores: (n,) larger means "more likely right"; NaN where missing (never accepted).
        correct: (n,) 0 or 1; the items independent, one of each image.
        alpha: greatest share of wrong answers among those accepted, between 0 and 1.
        delta: chance that the guarantee may fail, between 0 and 0.5.

    Raises:
        InputError: lengths differ, a label is not 0 or 1, or a level is out of range.
    """
    needed = fewest_items(alpha, delta)
    values, labels = np.asarray(scores, dtype=np.float64), as_labels(correct)
    if values.shape != labels.shape:
        raise InputError(f"one score per item is needed: {values.shape} for {labels.size} items")
    ranked, right = _from_the_surest(values, labels)
    if ranked.size < needed:
        return RiskControl(alpha, delta, labels.size, None, None)
    counts = _accepted_counts(ranked, start=_start(alpha, delta, ranked.size))
    n_wrong = counts - np.cumsum(right)[counts - 1]
    failed = np.flatnonzero(n_wrong > most_wrong(counts, alpha, delta))
    n_passed = int(failed[0]) if failed.size else counts.size

    def acceptance(index: int) -> Acceptance:
        n, wrong = int(counts[index]), int(n_wrong[index])
        bound = risk_bound(wrong, n, delta)
        return Acceptance(float(ranked[n - 1]), n / labels.size, n, wrong, bound)

    accepted = acceptance(n_passed - 1) if n_passed else None
    return RiskControl(alpha, delta, labels.size, accepted, acceptance(0))


def _from_the_surest(
    values: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels of the items that have a score, the highest first."""
    known = ~np.isnan(values)
    order = np.argsort(-values[known], kind="stable")
    return values[known][order], labels[known][order]


def _accepted_counts(ranked: NDArray[np.float64], *, start: int) -> NDArray[np.int64]:
    """Items that each candidate accepts: evenly spaced, with all that tie with the last."""
    ranks = np.unique(np.rint(np.linspace(start, ranked.size, N_CANDIDATES)).astype(np.int64))
    upto = np.searchsorted(-ranked, -ranked[ranks - 1], side="right")
    return np.unique(upto)


def _start(alpha: float, delta: float, n: int) -> int:
    """Items that the first candidate accepts, of n; depends on no score and no label."""
    needed = fewest_items(alpha, delta)
    least = max(needed, round(_LEAST_AT_START * n))
    most = max(needed, round(_MOST_AT_START * n))
    counts = np.arange(least, most)
    power = stats.binom.cdf(most_wrong(counts, alpha, delta), counts, _RISK_AT_START * alpha)
    enough = counts[power >= POWER]
    return int(enough[0]) if enough.size else most


def most_wrong(n: ArrayLike, alpha: float, delta: float) -> NDArray[np.int64]:
    """Most wrong answers with which a risk above alpha is ruled out; −1: not even none is few.

    Args:
        n: (k,) answers accepted.
        alpha: greatest share of wrong answers among those accepted.
        delta: chance that the guarantee may fail.
    """
    count = np.asarray(n)
    quantile = stats.binom.ppf(delta, count, alpha)
    few = stats.binom.cdf(quantile, count, alpha) <= delta
    return np.where(few, quantile, quantile - 1).astype(np.int64)


def _check_levels(alpha: float, delta: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha {alpha:g} is out of range; give a share between 0 and 1")
    if not 0 < delta < 0.5:
        raise InputError(f"delta {delta:g} is out of range; give a chance between 0 and 0.5")

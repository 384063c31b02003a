"""Thresholds with a guarantee: which confidences may be accepted at a chosen risk.

Learn then Test (Angelopoulos et al. 2021) by fixed-sequence testing: candidate thresholds are
tested from the highest to the lowest, each with the hypothesis that more than a share alpha of the
answers above it is wrong, at level delta; the first that is not rejected ends the sequence. Then,
with probability at least 1 − delta over the calibration images, at most a share alpha of the
accepted answers is wrong: of the answers to a random question about a random image. Each alpha is a
guarantee of its own.

Images are independent, the questions about one image are not. Where images hold several questions
(two or more, in the harmonic mean), each hypothesis is tested by betting (`vrp.stats.betting`) on
all of them: the value of an image is the mean over its questions of wrong − alpha where the answer
is accepted and of 0 where it is not, and has a mean of at least 0 under the hypothesis. Candidates
are quantiles of the scores of the first tenth of the images, which are not bet on, so that they do
not depend on the values; images stand in the order of a digest of their names. Of very many images,
the mean over several is one value.

Else one random question of each image is taken, and each hypothesis is tested by the exact binomial
tail. Candidates are quantiles of the scores and are chosen before any label is seen: given the
scores, the labels are independent, and the binomial tail bounds that of their sum (Hoeffding 1956).
"""

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.errors import InputError
from vrp.stats.betting import betting_p
from vrp.stats.clusters import POWER
from vrp.stats.estimate import as_labels

ALPHAS = (0.02, 0.05, 0.1, 0.2)
"""Risks for which thresholds are given."""
DELTA = 0.1
"""Chance that a guarantee may fail, over draws of the calibration items."""
N_CANDIDATES = 100
"""Candidate thresholds, evenly spaced in the number of accepted items."""
N_BETTING_CANDIDATES = 200
"""The same where they are tested by betting, evenly spaced in the share accepted."""
LEAST_QUESTIONS = 2
"""Questions about an image, in the harmonic mean, with which betting on all of them accepts more
than the binomial tail of one question of each image does."""
TESTS = {
    "binomial": "by the exact binomial tail, of one random item of each image",
    "betting": "by an exact test that bets on all items of each image",
}
"""Name of a test → how it tests thresholds."""
_FIRST_SHARE, _MOST_FIRST = 0.1, 200
"""Share of the images, and how many at most, whose scores choose the candidates of betting."""
_MOST_BATCHES = 2000
"""Of more images than that, the mean of several is one value to bet on."""
_BOUND_STEPS = 200
# The sequence starts where a risk of this share of alpha is told from alpha with 80% power, so that
# a few wrong answers among the most confident do not end it, within these shares of the items.
_RISK_AT_START = 0.5
_LEAST_AT_START, _MOST_AT_START = 0.1, 0.25


class Acceptance(NamedTuple):
    """Calibration items above a threshold."""

    threshold: float
    """Accept answers whose score is at least this."""
    share: float
    """Share of answers that is accepted, of a random item of a random image."""
    n: int
    """Items accepted."""
    n_wrong: int
    """Wrong ones among them."""
    risk: float
    """Share of wrong answers among those accepted, of a random item of a random image."""
    bound: float
    """Upper bound of the risk at confidence 1 − delta: the least that the test rules out (of the
    binomial tail, Clopper and Pearson's)."""


class RiskControl(NamedTuple):
    """Outcome of the search for a threshold at one alpha."""

    alpha: float
    """Greatest share of wrong answers among those accepted."""
    delta: float
    """Chance that the guarantee fails."""
    n: int
    """Calibration images."""
    n_items: int
    """Calibration items that were used; those without a score are never accepted."""
    accepted: Acceptance | None
    """The lowest threshold with the guarantee; None: accept nothing."""
    first: Acceptance | None
    """Where nothing is accepted, the first candidate; None where there are too few images for any
    guarantee."""

    @property
    def test(self) -> str:
        """Name of the test of each threshold, one of `TESTS`."""
        return "betting" if self.n_items > self.n else "binomial"

    @property
    def reason(self) -> str:
        """Reason why nothing is accepted; empty where something is."""
        if self.accepted is not None:
            return ""
        needed = fewest_items(self.alpha, self.delta)
        if self.first is None:
            return (
                f"too few calibration items with a score: a guarantee of {self.alpha:g} needs "
                f"at least {needed}, each of another image"
            )
        return (
            f"{self.first.n_wrong} of the {self.first.n} most confident answers are wrong: "
            f"the risk may be as high as {self.first.bound:.3f}"
        )

    def accepts(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """(n,) whether each answer is accepted, by its score (n,); NaN never is."""
        values = np.asarray(scores, dtype=np.float64)
        if self.accepted is None:
            return np.zeros(values.shape, dtype=bool)
        return values >= self.accepted.threshold


def one_item_per_group(groups: ArrayLike, *keys: ArrayLike) -> NDArray[np.bool_]:
    """(n,) True for one random item of each group, whatever the order of the items.

    A digest of the group's name draws among its items, which are ranked by `keys`.

    Args:
        groups: (n,) name of each item's group (image).
        keys: (n,) each; the first ranks the items of a group, the next those that tie.

    Raises:
        InputError: a key has not one entry per item.
    """
    names = np.asarray(groups, dtype=str)
    for key in keys:
        if np.shape(key) != names.shape:
            raise InputError(f"one group per item is needed: {names.shape} for {np.shape(key)}")
    distinct, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.lexsort((*map(np.asarray, reversed(keys)), codes))
    drawn = [
        int.from_bytes(_digest(str(name))) % int(count)
        for name, count in zip(distinct, counts, strict=True)
    ]
    found = np.zeros(names.size, dtype=bool)
    found[order[np.cumsum(counts) - counts + np.array(drawn, dtype=np.int64)]] = True
    return found


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()


def fewest_items(alpha: float, delta: float) -> int:
    """Fewest accepted items, all right, with which a risk above alpha can be ruled out.

    The n for which (1 − alpha)ⁿ ≤ delta.
    """
    check_levels(alpha, delta)
    # A hair less: a power that equals delta but for rounding is enough.
    return max(1, math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9))


def risk_bound(n_wrong: int, n: int, delta: float) -> float:
    """Upper bound of a risk at confidence 1 − delta (Clopper & Pearson 1934, one-sided).

    It is at most alpha exactly where the binomial tail P(X ≤ n_wrong), X ~ B(n, alpha), is at
    most delta.
    """
    return 1.0 if n_wrong >= n else float(stats.beta.ppf(1 - delta, n_wrong + 1, n - n_wrong))


def control_risk(
    scores: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    alpha: float,
    delta: float = DELTA,
) -> RiskControl:
    """Find the lowest threshold above which at most a share alpha of the answers is wrong.

    Args:
        scores: (n,) larger means "more likely right"; NaN where missing (never accepted).
        correct: (n,) 0 or 1.
        groups: (n,) name of each item's image; items of different images are independent. None:
            every item is of another image.
        alpha: greatest share of wrong answers among those accepted, between 0 and 1.
        delta: chance that the guarantee may fail, between 0 and 0.5.

    Raises:
        InputError: lengths differ, a label is not 0 or 1, or a level is out of range.
    """
    check_levels(alpha, delta)
    values, labels = np.asarray(scores, dtype=np.float64), as_labels(correct)
    if values.shape != labels.shape:
        raise InputError(f"one score per item is needed: {values.shape} for {labels.size} items")
    if groups is not None:
        names = np.asarray(groups, dtype=str)
        if names.shape != labels.shape:
            raise InputError(f"one group per item is needed: {names.shape} for {labels.size} items")
        if _several(names):
            return _by_betting(_Images.of(names, values, labels), alpha, delta)
        one = one_item_per_group(names, values, labels)
        values, labels = values[one], labels[one]
    return _by_binomial_tail(values, labels, alpha, delta)


def excess_risk_p(
    accepted: ArrayLike, correct: ArrayLike, groups: ArrayLike, *, alpha: float, level: float
) -> float:
    """P-value of the hypothesis that at most a share alpha of the accepted answers is wrong.

    Of a random item of a random image, by the tests that find a threshold: betting on all items,
    or the binomial tail of one item of each image.

    Args:
        accepted: (n,) whether each answer is accepted.
        correct: (n,) 0 or 1.
        groups: (n,) name of each item's image.
        alpha: share of wrong answers.
        level: of the test that betting aims at; the p-value holds at every level.

    Returns:
        NaN where no answer is accepted.

    Raises:
        InputError: lengths differ, or a label is not 0 or 1.
    """
    some, labels, names = np.asarray(accepted, bool), as_labels(correct), np.asarray(groups, str)
    if not some.shape == labels.shape == names.shape:
        raise InputError(f"{some.size} answers, {labels.size} labels and {names.size} groups")
    if not some.any():
        return math.nan
    if _several(names):
        images = _Images.of(names, some.astype(np.float64), labels)
        given, wrong = images.shares(np.array([1.0]))
        excess = alpha * given - wrong
        return float(betting_p(excess, low=alpha - 1, high=alpha, level=level)[0])
    one = one_item_per_group(names, some, labels) & some
    n_wrong, n = int((~labels[one]).sum()), int(one.sum())
    return float(stats.binom.sf(n_wrong - 1, n, alpha)) if n else math.nan


def _several(names: NDArray[np.str_]) -> bool:
    """Whether images hold several items, so that betting on all of them is worth it."""
    _, counts = np.unique(names, return_counts=True)
    return bool(counts.size) and float((1 / counts).mean()) * LEAST_QUESTIONS <= 1


# Betting on all items


class _Images(NamedTuple):
    """Items by image; images in the order of a digest of their names, in batches of one size."""

    code: NDArray[np.int64]
    """(n,) number of each item's batch, ascending."""
    weight: NDArray[np.float64]
    """(n,) chance of each item among those of its image."""
    score: NDArray[np.float64]
    """(n,) NaN where missing."""
    wrong: NDArray[np.bool_]
    """(n,)"""
    n: int
    """Images."""
    size: int
    """Images of a batch; the last one may hold fewer."""

    @classmethod
    def of(
        cls, names: NDArray[np.str_], scores: NDArray[np.float64], correct: NDArray[np.bool_]
    ) -> "_Images":
        """Order the items, so that sums do not depend on the order of the rows."""
        distinct, named, counts = np.unique(names, return_inverse=True, return_counts=True)
        digests = [_digest(name) for name in distinct.tolist()]
        place = np.empty(distinct.size, dtype=np.int64)
        place[sorted(range(distinct.size), key=digests.__getitem__)] = np.arange(distinct.size)
        order = np.lexsort((correct, scores, place[named]))
        size = math.ceil(distinct.size / _MOST_BATCHES)
        return cls(
            place[named[order]] // size, 1 / counts[named[order]], scores[order], ~correct[order],
            distinct.size, size,
        )  # fmt: skip

    @property
    def n_batches(self) -> int:
        return math.ceil(self.n / self.size)

    def shares(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(batches, k) mean share of an image's items that is accepted; accepted and wrong.

        Args:
            thresholds: (k,) descending.
        """
        k = thresholds.size
        known = ~np.isnan(self.score)
        cell = self.code[known] * (k + 1) + np.searchsorted(-thresholds, -self.score[known])

        n_images = np.full((self.n_batches, 1), self.size)
        n_images[-1] -= self.size * self.n_batches - self.n

        def mean(weight: NDArray[np.float64]) -> NDArray[np.float64]:
            sums = np.bincount(cell, weight[known], minlength=self.n_batches * (k + 1))
            return sums.reshape(-1, k + 1)[:, :k].cumsum(axis=1) / n_images

        return mean(self.weight), mean(self.weight * self.wrong)

    def candidates(self, n_first: int, start: float) -> NDArray[np.float64]:
        """(k,) descending quantiles of the first batches' scores, from a share `start` on."""
        some = (self.code < n_first) & ~np.isnan(self.score)
        if not some.any():
            return np.array([])
        order = np.argsort(-self.score[some], kind="stable")
        reached = np.cumsum(self.weight[some][order])
        # A hair less: a share that is reached but for rounding is reached.
        shares = np.linspace(start, 1, N_BETTING_CANDIDATES) * reached[-1] * (1 - 1e-9)
        return np.unique(self.score[some][order][np.searchsorted(reached, shares)])[::-1]


def _by_betting(images: _Images, alpha: float, delta: float) -> RiskControl:
    n_first = math.ceil(min(_FIRST_SHARE * images.n, _MOST_FIRST) / images.size)
    known = (images.code >= n_first) & ~np.isnan(images.score)
    n_known = np.unique(images.code[known]).size * images.size
    nothing = RiskControl(alpha, delta, images.n, images.code.size, None, None)
    if n_known < fewest_items(alpha, delta):
        return nothing
    thresholds = images.candidates(n_first, _start(alpha, delta, n_known) / n_known)
    if not thresholds.size:
        return nothing
    given, wrong = images.shares(thresholds)

    def ruled_out(columns: slice, risks: ArrayLike) -> NDArray[np.bool_]:
        risk = np.asarray(risks)
        excess = wrong[:, columns] - risk * given[:, columns]
        p = betting_p(excess, low=-risk, high=1 - risk, level=delta, n_seen=n_first)
        return p <= delta

    def acceptance(index: int) -> Acceptance:
        some = images.score >= thresholds[index]
        both = some & images.wrong
        share, wrong_share = (float(images.weight[those].sum()) for those in (some, both))
        bound = _least_ruled_out(lambda risks: ruled_out(slice(index, index + 1), risks), alpha)
        return Acceptance(
            float(thresholds[index]), share / images.n, int(some.sum()), int(both.sum()),
            wrong_share / share, bound,
        )  # fmt: skip

    failed = np.flatnonzero(~ruled_out(slice(None), alpha))
    n_passed = int(failed[0]) if failed.size else thresholds.size
    if n_passed:
        return nothing._replace(accepted=acceptance(n_passed - 1))
    return nothing._replace(first=acceptance(0))


def _least_ruled_out(
    ruled_out: Callable[[NDArray[np.float64]], NDArray[np.bool_]], alpha: float
) -> float:
    """Least risk, of a grid that holds alpha, above which all are ruled out; 1 if none is."""
    steps = np.arange(1, _BOUND_STEPS + 1) / _BOUND_STEPS
    for risks in (alpha * steps, alpha + (1 - alpha) * steps[:-1]):
        kept = np.flatnonzero(~ruled_out(risks))
        if not kept.size or kept[-1] + 1 < risks.size:
            return float(risks[kept[-1] + 1 if kept.size else 0])
    return 1.0


# The binomial tail of one item of each image


def _by_binomial_tail(
    values: NDArray[np.float64], labels: NDArray[np.bool_], alpha: float, delta: float
) -> RiskControl:
    ranked, right = _from_the_most_confident(values, labels)
    nothing = RiskControl(alpha, delta, labels.size, labels.size, None, None)
    if ranked.size < fewest_items(alpha, delta):
        return nothing
    counts = _accepted_counts(ranked, start=_start(alpha, delta, ranked.size))
    n_wrong = counts - np.cumsum(right)[counts - 1]
    failed = np.flatnonzero(n_wrong > most_wrong(counts, alpha, delta))
    n_passed = int(failed[0]) if failed.size else counts.size

    def acceptance(index: int) -> Acceptance:
        n, wrong = int(counts[index]), int(n_wrong[index])
        bound = risk_bound(wrong, n, delta)
        return Acceptance(float(ranked[n - 1]), n / labels.size, n, wrong, wrong / n, bound)

    if n_passed:
        return nothing._replace(accepted=acceptance(n_passed - 1))
    return nothing._replace(first=acceptance(0))


def _from_the_most_confident(
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


def check_levels(alpha: float, delta: float) -> None:
    """Refuse levels that are out of range, by an InputError."""
    if not 0 < alpha < 1:
        raise InputError(f"alpha {alpha:g} is out of range; give a share between 0 and 1")
    if not 0 < delta < 0.5:
        raise InputError(f"delta {delta:g} is out of range; give a chance between 0 and 0.5")

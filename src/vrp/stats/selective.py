"""Selective prediction in numbers: accuracy at a coverage, and the prediction rejection ratio.

Items are answered in the order of their confidence. Those tied are answered in every order at
once: the expected number of wrong answers is linear within a tie. Items without a confidence come
last.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.stats.auroc import too_few
from vrp.stats.bootstrap import BootstrapEstimate, Resamples
from vrp.stats.estimate import Estimate, undefined
from vrp.stats.proportion import clustered_share

COVERAGES = (0.5, 0.8, 0.9)
"""Shares of the items answered at which the accuracy is given."""


class Blocks(NamedTuple):
    """Items in the order of their confidence, cut into ties."""

    order: NDArray[np.int64]
    """(n,) rows, the most confident first."""
    first: NDArray[np.int64]
    """(n_blocks,) where each tie begins in that order."""
    wrong: NDArray[np.float64]
    """(n,) 1 where the answer is wrong, in that order."""

    @classmethod
    def of(cls, confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> "Blocks":
        """Sort items; those without a confidence (NaN) are one tie, the last."""
        order = np.argsort(-confidence, kind="stable")
        values = confidence[order]
        missing = np.isnan(values)
        starts = np.ones(values.size, dtype=bool)
        starts[1:] = (values[1:] != values[:-1]) & ~(missing[1:] & missing[:-1])
        return cls(order, np.flatnonzero(starts), (~correct[order]).astype(np.float64))

    def curve(
        self, weights: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n_blocks + 1, k) items answered and wrong answers among them, up to each tie's end.

        Args:
            weights: (n, k) how often each item counts, in the caller's order.
        """
        sorted_weights = weights[self.order]
        sizes = np.add.reduceat(sorted_weights, self.first)
        errors = np.add.reduceat(sorted_weights * self.wrong[:, None], self.first)
        none = np.zeros((1, weights.shape[1]))
        return (
            np.vstack([none, np.cumsum(sizes, axis=0)]),
            np.vstack([none, np.cumsum(errors, axis=0)]),
        )


def rejection_ratio(
    answered: NDArray[np.floating], wrong: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(k,) prediction rejection ratio (PRR) of curves of `Blocks.curve`.

    Of the area between the risk of answering in random order and that of an oracle, which answers
    all wrong ones last, the share that the confidence gains (Malinin & Gales 2021): 1 for the
    oracle, 0 for chance. Areas are over the coverage, exact for the piecewise linear curve. NaN
    where all answers are right, or all wrong.
    """
    n, errors = answered[-1], wrong[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = errors / n
        # Within a tie, wrong(x) = a + b x; the mean of wrong(x) / x has a closed form.
        step = np.diff(answered, axis=0)
        slope = np.where(step > 0, np.diff(wrong, axis=0) / step, 0.0)
        offset = wrong[:-1] - slope * answered[:-1]
        log_ratio = np.log(answered[1:] / answered[:-1])
        # The first tie begins at 0 items and 0 wrong ones: its risk is constant.
        curved = np.where((offset != 0) & (step > 0), offset * log_ratio, 0.0)
        risk = (curved + slope * step).sum(axis=0) / n
        oracle = rate + (1 - rate) * np.log1p(-rate)
        found = (rate - risk) / (rate - oracle)
    return np.where((errors > 0) & (errors < n), found, math.nan)


def accuracy_at(
    answered: NDArray[np.floating], wrong: NDArray[np.floating], coverage: float
) -> NDArray[np.float64]:
    """(k,) expected accuracy among the most confident share `coverage` of the items."""
    wanted = coverage * answered[-1]
    # The tie within which the coverage is reached, or whose end reaches it.
    row = (answered < wanted).sum(axis=0)[None]
    before, after = (np.take_along_axis(answered, row - step, axis=0)[0] for step in (1, 0))
    few, many = (np.take_along_axis(wrong, row - step, axis=0)[0] for step in (1, 0))
    share = (wanted - before) / (after - before)
    return 1 - (few + share * (many - few)) / wanted


def selective_estimates(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    resamples: Resamples,
    n_images: int,
) -> dict[str, Estimate]:
    """`prr` and `accuracy_at_50`, `_80` and `_90`, with bootstrap intervals clustered by image.

    An accuracy whose resamples are all equal (no wrong answer among those given) has Korn and
    Graubard's interval of the answered items in its place.

    Args:
        confidence: (n,) larger means "more likely right"; NaN: missing.
        correct: (n,)
        groups: (n,) number of each item's image.
        resamples: of all images.
        n_images: images of the study.
    """
    n, n_groups = len(correct), int(np.unique(groups).size)
    if not np.isfinite(confidence).any():
        return {}
    blocks = Blocks.of(np.asarray(confidence, dtype=np.float64), correct)
    codes = resamples.codes(groups)
    whole = blocks.curve(np.ones((n, 1)))
    coverage_of = {f"accuracy_at_{round(100 * share)}": share for share in COVERAGES}
    names = ["prr", *coverage_of]
    replicates = {name: np.empty(resamples.n_boot) for name in names}
    for part, weights in resamples.blocks():
        curve = blocks.curve(weights[codes].astype(np.float64))
        replicates["prr"][part] = rejection_ratio(*curve)
        for name, share in coverage_of.items():
            replicates[name][part] = accuracy_at(*curve, share)
    n_missing = int(np.isnan(confidence).sum())
    note = f"{n_missing} items without a confidence are answered last" if n_missing else ""

    def estimate(name: str, value: NDArray[np.float64]) -> Estimate:
        return BootstrapEstimate(float(value[0]), replicates[name], n, n_groups, note).estimate()

    found = {"prr": estimate("prr", rejection_ratio(*whole))}
    if few := too_few(correct, groups):
        found["prr"] = undefined(n=n, n_groups=n_groups, method="cluster-bootstrap", note=few)
    for name, share in coverage_of.items():
        made = estimate(name, accuracy_at(*whole, share))
        if made.low == made.high:
            taken = blocks.order[: max(1, round(share * n))]
            exact = clustered_share(correct[taken], groups[taken], n_images=n_images)
            made = made._replace(low=exact.low, high=exact.high, method=exact.method)
        found[name] = made
    return found

"""Selective prediction: answer the most confident items first, abstain on the rest.

Items whose confidence is missing (NaN) come last: no confidence is not high confidence. Items
tied in confidence count in every order at once (their expected number of errors grows evenly),
so that no result depends on the order of rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.errors import InputError
from vrp.stats.estimate import as_labels


class RiskCoverage(NamedTuple):
    """A risk–coverage curve and its area."""

    coverage: NDArray[np.float64]
    """(n,) share of items answered: 1/n, 2/n, …, 1."""
    risk: NDArray[np.float64]
    """(n,) expected share wrong among the items answered."""
    aurc: float
    """Area under the curve: mean risk over the coverages; lower is better."""


class Ties(NamedTuple):
    """Items in the order in which they are answered, cut into ties."""

    order: NDArray[np.int64]
    """(n,) rows, the most confident first."""
    first: NDArray[np.int64]
    """(n_ties,) where each tie begins in that order."""
    tie: NDArray[np.int64]
    """(n,) tie of each item, in that order."""
    size: NDArray[np.int64]
    """(n_ties,) items."""
    rate: NDArray[np.float64]
    """(n_ties,) share of wrong answers."""


def ties_of(confidence: NDArray[np.float64], correct: NDArray) -> Ties:
    """Sort items by their confidence; those without one (NaN) are one tie, the last."""
    # NaN sorts last under argsort, also of the negated values.
    order = np.argsort(-confidence, kind="stable")
    values, wrong = confidence[order], (~correct[order]).astype(np.float64)
    missing = np.isnan(values)
    starts = np.ones(values.size, dtype=bool)
    starts[1:] = (values[1:] != values[:-1]) & ~(missing[1:] & missing[:-1])
    first = np.flatnonzero(starts)
    size = np.diff(np.append(first, values.size))
    return Ties(order, first, np.cumsum(starts) - 1, size, np.add.reduceat(wrong, first) / size)


def _expected_errors(confidence: NDArray[np.float64], correct: NDArray) -> NDArray[np.float64]:
    """(n,) expected errors among the k most confident items, k = 1…n."""
    ties = ties_of(confidence, correct)
    return np.cumsum(ties.rate[ties.tie])


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Risk–coverage curve and its area AURC.

    Args:
        confidence: (n,) larger means "more likely right"; NaN (missing) counts as least.
        correct: (n,) 0 or 1.

    Raises:
        InputError: lengths differ, no items, labels are not 0 or 1.
    """
    values, labels = np.asarray(confidence, dtype=np.float64), as_labels(correct)
    if values.shape != labels.shape or values.size == 0:
        raise InputError(f"one confidence per item is needed: {values.shape} for {labels.size}")
    k = np.arange(1, values.size + 1)
    risk = _expected_errors(values, labels) / k
    return RiskCoverage(k / values.size, risk, float(risk.mean()))

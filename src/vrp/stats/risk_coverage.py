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


def _expected_errors(confidence: NDArray[np.float64], correct: NDArray) -> NDArray[np.float64]:
    """(n,) expected errors among the k most confident items, k = 1…n."""
    # NaN sorts last under argsort, also of the negated values.
    order = np.argsort(-confidence, kind="stable")
    values, wrong = confidence[order], (~correct[order]).astype(np.float64)
    missing = np.isnan(values)
    starts = np.ones(values.size, dtype=bool)
    starts[1:] = (values[1:] != values[:-1]) & ~(missing[1:] & missing[:-1])
    first = np.flatnonzero(starts)
    block = np.cumsum(starts) - 1
    size = np.diff(np.append(first, values.size))
    rate = np.add.reduceat(wrong, first) / size
    return np.cumsum(rate[block])


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

"""Estimates with interval, p-value and sample size; samples without missing values."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.errors import InputError


class Estimate(NamedTuple):
    """A point estimate with interval, p-value and sample size."""

    value: float
    """The estimate; NaN where it is undefined (`note` then says why)."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    p: float
    """Two-sided p-value against "no effect" (R = 0, AUROC = 0.5, 0 pp); NaN where not tested."""
    n: int
    """Items used."""
    n_groups: int
    """Images among the items used."""
    method: str
    """Method of the interval: `fisher-z`, `delong`, `cluster-bootstrap`, `wilson`, …"""
    note: str = ""
    """Items dropped and why; why the value is undefined."""


ALPHA = 0.05
"""Level of every test."""
LEVEL = 0.95
"""Confidence level of every interval."""
SIGNAL_MISSING = "signal missing"
"""Reason for dropping items whose signal is NaN, as a statistic states it."""


def undefined(*, n: int, n_groups: int, method: str, note: str) -> Estimate:
    """An estimate that could not be made, with the reason in `note`."""
    return Estimate(math.nan, math.nan, math.nan, math.nan, n, n_groups, method, note)


def join_notes(*notes: str) -> str:
    """The distinct non-empty notes in their order, as one line."""
    return "; ".join(dict.fromkeys(note for note in notes if note))


class Sample(NamedTuple):
    """The items that a statistic of a signal can use."""

    signal: NDArray[np.float64]
    """(n,) without missing values."""
    correct: NDArray[np.bool_]
    """(n,)"""
    kept: NDArray[np.bool_]
    """(items given,) True where an item is used."""
    note: str
    """Number of items dropped and why."""


def as_labels(correct: ArrayLike) -> NDArray[np.bool_]:
    """Labels as booleans.

    Raises:
        InputError: a label is neither 0 nor 1, or labels are not one per item.
    """
    labels = np.asarray(correct)
    if labels.ndim != 1:
        raise InputError(f"labels must be one per item, found an array of shape {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels must be 0 or 1; binarise scores and drop items without a label")
    return labels.astype(bool)


def complete_sample(signal: ArrayLike, correct: ArrayLike, *, finite: bool = False) -> Sample:
    """Drop the items whose signal is missing (NaN), and say so.

    Args:
        signal: (n,) one value per item, NaN where missing.
        correct: (n,) 0 or 1.
        finite: refuse infinite values, which ranks can use and moments cannot.

    Raises:
        InputError: lengths differ, a label is not 0 or 1, or an infinite value with `finite`.
    """
    values = np.asarray(signal, dtype=np.float64)
    labels = as_labels(correct)
    if values.shape != labels.shape:
        raise InputError(
            f"signal and labels must have one value per item: {values.shape} and {labels.shape}"
        )
    if finite and np.isinf(values).any():
        raise InputError("signal holds infinite values; a correlation needs finite ones")
    kept = ~np.isnan(values)
    n_dropped = int(values.size - kept.sum())
    note = f"{n_dropped} of {values.size} items dropped: {SIGNAL_MISSING}" if n_dropped else ""
    return Sample(values[kept], labels[kept], kept, note)


def take_kept(values: ArrayLike, kept: NDArray[np.bool_], *, name: str) -> NDArray:
    """The entries of a per-item array that belong to the items kept.

    Raises:
        InputError: the array does not have one entry per item.
    """
    array = np.asarray(values)
    if array.shape != kept.shape:
        raise InputError(
            f"{name} must have one value per item: {array.shape} for {kept.size} items"
        )
    return array[kept]


def n_kept_labels(labels: ArrayLike, kept: NDArray[np.bool_]) -> int:
    """Number of different labels (groups) of the items kept.

    Raises:
        InputError: labels are not one per item.
    """
    return int(codes_of(labels, kept, name="groups").max(initial=-1)) + 1


def codes_of(labels: ArrayLike | None, kept: NDArray[np.bool_], *, name: str) -> NDArray[np.int64]:
    """Labels (groups, strata) of the items kept, numbered from 0; all 0 for `None`.

    Raises:
        InputError: labels are not one per item.
    """
    if labels is None:
        return np.zeros(int(kept.sum()), dtype=np.int64)
    values = take_kept(labels, kept, name=name)
    if (
        values.size
        and values.dtype.kind == "i"
        and 0 <= values.min() <= values.max() <= values.size
    ):
        # The same numbers as from sorting, at the cost of counting.
        present = np.bincount(values) > 0
        return (np.cumsum(present) - 1)[values].astype(np.int64)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)

"""ROC curve within strata, whose area is the AUROC within strata."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from vrp.stats.auroc import too_few, van_elteren_weight
from vrp.stats.estimate import as_labels


class RocCurve(NamedTuple):
    """Points of a curve from (0, 0) to (1, 1), to be joined by straight lines."""

    false_positive: NDArray[np.float64]
    """(k,) share of the wrong items that lie above a threshold, ascending; repeated where the
    curve rises straight up."""
    true_positive: NDArray[np.float64]
    """(k,) share of the right items above the same threshold."""


class _Cell(NamedTuple):
    """The curve of one stratum, or of one fold within it."""

    x: NDArray[np.float64]  # (k,) distinct false positive rates, ascending
    before: NDArray[np.float64]  # (k,) true positive rate where the curve reaches x
    after: NDArray[np.float64]  # (k,) and where it leaves x, higher where it rises straight up
    weight: float


def stratified_roc(
    signal: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    strata: ArrayLike,
    *,
    folds: ArrayLike | None = None,
) -> RocCurve:
    """ROC curve of items compared within strata only.

    The mean of the strata's curves at each false positive rate, with van Elteren's weights as in
    `vrp.stats.auroc.stratified_auroc`, so that the area under it is that AUROC; small strata are
    left out. Folds of a stratum count by their pairs.

    Args:
        signal: (n,) larger means "more likely right"; NaN where missing (dropped).
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image.
        strata: (n,) name of each item's stratum.
        folds: (n,) within a stratum, compare only items of one fold; None: all with all.

    Returns:
        the curve; without points where every stratum is too small.

    Raises:
        InputError: labels are not 0 or 1.
    """
    values, labels, names = np.asarray(signal), as_labels(correct), np.asarray(strata)
    within = np.zeros(len(values)) if folds is None else np.asarray(folds)
    kept = ~np.isnan(values)
    cells: list[_Cell] = []
    for name in np.unique(names[kept]).tolist():
        here = kept & (names == name)
        if not too_few(labels[here], codes[here]):
            cells += _cells(values[here], labels[here], within[here])
    return _mean(cells)


def _cells(values: NDArray, labels: NDArray[np.bool_], folds: NDArray) -> list[_Cell]:
    """Curves of the folds of a stratum; their weights add up to the stratum's."""
    n_right = int(labels.sum())
    whole = van_elteren_weight(n_right, labels.size - n_right)
    found = []
    for fold in np.unique(folds).tolist():
        here = folds == fold
        n_pairs = int(labels[here].sum()) * int((~labels[here]).sum())
        if n_pairs:
            found.append(_Cell(*_curve(values[here], labels[here]), n_pairs))
    total = sum(cell.weight for cell in found)
    return [cell._replace(weight=whole * cell.weight / total) for cell in found]


def _curve(values: NDArray, labels: NDArray[np.bool_]) -> tuple[NDArray, NDArray, NDArray]:
    false_positive, true_positive, _ = roc_curve(labels, values, drop_intermediate=False)
    x, first, count = np.unique(false_positive, return_index=True, return_counts=True)
    return x, true_positive[first], true_positive[first + count - 1]


def _mean(cells: list[_Cell]) -> RocCurve:
    if not cells:
        return RocCurve(np.zeros(0), np.zeros(0))
    x = np.unique(np.concatenate([cell.x for cell in cells]))
    weights = np.array([cell.weight for cell in cells])
    ends = np.array([_ends_at(cell, x) for cell in cells])  # cells × (before, after) × k
    before, after = np.tensordot(weights / weights.sum(), ends, axes=1)
    return RocCurve(np.repeat(x, 2), np.column_stack([before, after]).ravel())


def _ends_at(cell: _Cell, x: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Where a curve reaches and leaves each of `x`, which hold its own."""
    last = np.searchsorted(cell.x, x, side="right") - 1
    following = np.minimum(last + 1, len(cell.x) - 1)
    step = cell.x[following] - cell.x[last]
    part = np.divide(x - cell.x[last], step, out=np.zeros_like(x), where=step > 0)
    along = cell.after[last] + part * (cell.before[following] - cell.after[last])
    own = part == 0
    return np.where(own, cell.before[last], along), np.where(own, cell.after[last], along)

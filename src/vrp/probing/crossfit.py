"""Fit on the training part, score the held-out part, for any probe.

Scores are the fitted probability of a right answer. They come from as many models as there are
folds, so pass `FoldPlan.fold` as `strata` to the AUROC.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.probing.folds import FoldPlan, ProbeItems, Split, sklearn_seed

NO_WEIGHTS = np.zeros(0)
_ROWS_AT_ONCE = 4096  # whose features are checked at a time


class TrainingPart(NamedTuple):
    """Data of one split that a learner is given."""

    features: Any
    """(n_train, …) array; a `RowView` where the probe was given one."""
    correct: NDArray[np.bool_]
    """(n_train,) holding both classes."""
    task: NDArray[np.generic]
    """(n_train,)"""
    inner: NDArray[np.int64]
    """(n_train,) inner fold of each item."""
    seed: int
    """For scikit-learn's random_state."""


class Fitted(NamedTuple):
    """Result of a learner for one split."""

    scores: NDArray[np.float64]
    """(n_test,) probability of a right answer."""
    weights: NDArray[np.float64] = NO_WEIGHTS
    """(d,) weights on standardised features; empty where the model has none."""
    inner_scores: NDArray[np.float64] | None = None
    """(n_train,) out-of-inner-fold scores at the picked penalty."""
    inner_auroc: float = math.nan
    """Their AUROC, macro-averaged over tasks."""


class FoldFit(NamedTuple):
    """Fit of one fold."""

    fold: int
    """The fold held out."""
    n_test: int
    """Items scored."""
    layer: str = ""
    """The layer read, where one was chosen for this fold; else empty."""
    weights: NDArray[np.float64] = NO_WEIGHTS
    """(d,) weights on standardised features; empty where the model has none."""
    inner_auroc: float = math.nan
    """AUROC within the training part (out of inner fold, macro over tasks); NaN where not made."""


@dataclass(frozen=True)
class ProbeResult:
    """A probe's out-of-fold scores and its fits."""

    scores: NDArray[np.float64]
    """(n,) probability of a right answer, in the caller's row order; NaN where every training item
    is right, or every one wrong. Of some probes a rank only (`is_probability`)."""
    fits: tuple[FoldFit, ...]
    """One per fold, ascending."""
    stacked: NDArray[np.float64] | None = None
    """(n_folds, n) the score as a *feature* for a second model: in row k, items outside fold k
    have their out-of-inner-fold score and items of fold k their held-out score, so that no label
    of fold k has touched what the second model is fitted on."""
    is_probability: bool = True
    """Whether scores are probabilities; where not, a higher one only means more likely right."""


@dataclass(frozen=True)
class RowView:
    """A matrix whose rows are copied only when they are read, a few columns at a time.

    For learners that standardise a matrix that is too large to be in memory three times.
    """

    matrix: NDArray[Any]
    """(n, d)"""
    rows: NDArray[np.integer]
    """(rows,) indices of its rows."""

    @classmethod
    def of(cls, matrix: NDArray[Any]) -> "RowView":
        """All rows."""
        return cls(matrix, np.arange(len(matrix)))

    def __len__(self) -> int:
        return self.rows.size

    def __getitem__(self, rows: NDArray[np.integer]) -> "RowView":
        return RowView(self.matrix, self.rows[rows])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, d)."""
        return len(self), self.matrix.shape[1]

    def columns(self, start: int, stop: int) -> NDArray[Any]:
        """(rows, stop − start) a copy."""
        return self.matrix[self.rows, start:stop]


@dataclass(frozen=True)
class PerFold:
    """Features that differ by fold, because they were chosen or made on its training part."""

    of_fold: Callable[[int], NDArray[Any]]
    """Fold held out → (n, d) features of all items."""
    layer: Mapping[int, str] = field(default_factory=dict)
    """Fold → name of the layer read, for the record."""


Features = NDArray[Any] | RowView | PerFold
Learner = Callable[[TrainingPart, Any], Fitted]


def finite_matrix(features: Any, *, n_items: int, name: str) -> NDArray[np.floating]:
    """Features as a finite (n, d) matrix.

    Raises:
        InputError: another shape, or a value that is not finite.
    """
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.shape[0] != n_items or matrix.shape[1] == 0:
        raise InputError(f"{name}: features must be ({n_items}, d), found shape {matrix.shape}")
    row = next(_not_finite(matrix), None)
    if row is not None:
        raise InputError(f"{name}: features of row {row} are not finite; drop or fix the item")
    return matrix


def _not_finite(matrix: NDArray[Any]) -> Iterator[int]:
    """Rows that hold a value that is not finite; a few thousand rows are looked at at a time."""
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        piece = matrix[start : start + _ROWS_AT_ONCE]
        yield from (start + np.flatnonzero(~np.isfinite(piece).all(axis=1))).tolist()


def finite_features(features: Features, *, n_items: int, name: str) -> Features:
    """Features as finite (n, d) matrices, checked now or, where they differ by fold, when read.

    Raises:
        InputError: another shape, or a value that is not finite.
    """
    if not isinstance(features, PerFold):
        return finite_matrix(features, n_items=n_items, name=name)
    of_fold = features.of_fold

    def checked(fold: int) -> NDArray[Any]:
        return finite_matrix(of_fold(fold), n_items=n_items, name=f"{name}, fold {fold}")

    return PerFold(checked, features.layer)


def _features_of(features: Features, fold: int) -> tuple[NDArray[Any] | RowView, str]:
    """Features of the fold that is held out, and the name of the layer that they are of."""
    if isinstance(features, PerFold):
        return features.of_fold(fold), features.layer.get(fold, "")
    return features, ""


def cross_fit(
    name: str, features: Features, items: ProbeItems, plan: FoldPlan, learner: Learner
) -> ProbeResult:
    """Fit and score a probe over all splits.

    Rows reach the learner in the order of item ids, so that results do not depend on the order
    of the caller's. A training part with one class only gives NaN scores.

    Args:
        name: the probe, which enters its seeds.
        features: (n, …) one row per item; or features that differ by fold.
        items: the items.
        plan: their splits.
        learner: fits a training part and scores the held-out features.

    Raises:
        InputError: features, items and plan are not of the same items.
    """
    if plan.fold.size != items.n_items:
        raise InputError(f"{name}: folds of {plan.fold.size} items for {items.n_items} items")
    scores = np.full(items.n_items, math.nan)
    stacked = np.full((len(plan.splits), items.n_items), math.nan)
    fits, nested = [], True
    for row, split in enumerate(plan.splits):
        matrix, layer = _features_of(features, split.fold)
        if len(matrix) != items.n_items:
            raise InputError(f"{name}: {len(matrix)} rows of features for {items.n_items} items")
        labels = items.correct[split.train]
        # NaN, as a constant score would count as a probe at chance.
        if labels.all() or not labels.any():
            fitted = Fitted(np.full(split.test.size, math.nan))
        else:
            seed = sklearn_seed("probe", plan.seed, name, split.fold)
            part = TrainingPart(
                matrix[split.train], labels, items.task[split.train], split.inner, seed
            )
            fitted = learner(part, matrix[split.test])
            # A second model needs inner scores from every fold.
            nested = nested and fitted.inner_scores is not None
        scores[split.test] = stacked[row, split.test] = fitted.scores
        if fitted.inner_scores is not None:
            stacked[row, split.train] = fitted.inner_scores
        fits.append(FoldFit(split.fold, split.test.size, layer, fitted.weights, fitted.inner_auroc))
    return ProbeResult(scores, tuple(fits), stacked if nested else None)


def rank_held_out(
    name: str,
    features: Features,
    items: ProbeItems,
    plan: FoldPlan,
    score: Callable[[NDArray[Any], Split], NDArray[np.floating]],
) -> ProbeResult:
    """Score the held-out items of every fold by something that is no probability.

    Args:
        name: for messages.
        features: (n, d) one row per item; or features that differ by fold.
        items: the items.
        plan: their splits.
        score: features of all items and a split → (n_test,) higher means more likely right.

    Raises:
        InputError: features of another shape or not finite.
    """
    checked = finite_features(features, n_items=items.n_items, name=name)
    scores = np.full(items.n_items, math.nan)
    fits = []
    for split in plan.splits:
        matrix, layer = _features_of(checked, split.fold)
        scores[split.test] = score(np.asarray(matrix), split)
        fits.append(FoldFit(split.fold, split.test.size, layer))
    return ProbeResult(scores, tuple(fits), is_probability=False)

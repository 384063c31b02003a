"""Image-grouped, stratified folds, the same for every probe and whatever the order of rows.

A fold is a share of the *images*; all items of an image lie in one fold. Within each training
part a second, inner split by image serves the choice of penalty and layer.
"""

import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from vrp.errors import InputError
from vrp.stats.bootstrap import seed_from
from vrp.stats.estimate import as_labels


def sklearn_seed(*parts: str | int) -> int:
    """A 32-bit seed for scikit-learn from the SHA-256 of the parts."""
    return seed_from(*parts) % 2**32


@dataclass(frozen=True)
class ProbeItems:
    """The items of one model: whom a probe predicts, and what."""

    item_id: NDArray[np.generic]
    """(n,) unique."""
    correct: NDArray[np.bool_]
    """(n,) what is predicted: the greedy answer is right; False where that is not known."""
    group: NDArray[np.generic]
    """(n,) the item's image."""
    task: NDArray[np.generic]
    """(n,) the item's task."""
    judged: NDArray[np.bool_]
    """(n,) whether it is known what is right; the others are scored, and never fitted on."""

    @classmethod
    def of(
        cls,
        item_id: ArrayLike,
        correct: ArrayLike,
        group: ArrayLike,
        task: ArrayLike,
        judged: ArrayLike | None = None,
    ) -> "ProbeItems":
        """Check and keep the columns; without `judged` all items are.

        Raises:
            InputError: lengths differ, an item occurs twice, a label is not 0 or 1.
        """
        ids, groups, tasks = np.asarray(item_id), np.asarray(group), np.asarray(task)
        labels = as_labels(correct)
        known = np.ones(ids.shape, bool) if judged is None else np.asarray(judged, bool)
        if not ids.shape == labels.shape == groups.shape == tasks.shape == known.shape:
            raise InputError(
                "item ids, labels, groups and tasks must have one value per item: "
                f"{ids.shape}, {labels.shape}, {groups.shape}, {tasks.shape}"
            )
        unique, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise InputError(
                f"item {str(unique[counts > 1][0])!r} occurs twice; item ids must differ"
            )
        return cls(ids, labels & known, groups, tasks, known)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.item_id.size)

    def with_labels(self, correct: ArrayLike) -> "ProbeItems":
        """The same items with other labels, for example permuted ones."""
        return replace(self, correct=as_labels(correct))


class Split(NamedTuple):
    """One fold held out, the others to fit on. Rows are listed in the order of item ids."""

    fold: int
    """The fold held out."""
    train: NDArray[np.int64]
    """Rows to fit on."""
    test: NDArray[np.int64]
    """Rows to predict."""
    inner: NDArray[np.int64]
    """(len(train),) inner fold of each training row."""


class FoldPlan(NamedTuple):
    """All splits of a study's items."""

    fold: NDArray[np.int64]
    """(n,) fold of each item, in the caller's row order; also the `strata` for its AUROC."""
    splits: tuple[Split, ...]
    """One per fold, ascending."""
    seed: str
    """Names the folds; probes derive their own seeds from it."""

    def learning_from(self, part: NDArray[np.bool_]) -> "FoldPlan":
        """Return the same splits with training parts of some items only; all are still scored.

        Args:
            part: (n,) items that may be learnt from.
        """
        splits = (
            split._replace(train=split.train[kept], inner=split.inner[kept])
            for split in self.splits
            for kept in [part[split.train]]
        )
        return self._replace(splits=tuple(splits))


def _grouped_folds(
    strata: NDArray, groups: NDArray, *, n_folds: int, seed: int
) -> NDArray[np.int64]:
    if np.unique(strata, return_counts=True)[1].max() < n_folds:
        strata = np.zeros(strata.size, dtype=np.int64)  # nothing left to stratify on
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = np.empty(strata.size, dtype=np.int64)
    with warnings.catch_warnings():
        # A task with fewer wrong items than folds is expected; it is spread as far as it goes.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, test) in enumerate(splitter.split(strata, strata, groups)):
            fold[test] = number
    return fold


def _strata(items: ProbeItems, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    tasks = np.unique(items.task[rows], return_inverse=True)[1]
    return (2 * tasks + items.correct[rows]).astype(np.int64)


def assign_folds(items: ProbeItems, *, n_folds: int = 5, seed: str) -> NDArray[np.int64]:
    """Fold of each item: images kept whole, tasks × correctness spread evenly.

    Depends on ids, images, tasks, labels and seed, not on the order of rows; the folds of judged
    items do not depend on the others, whose images of their own are dealt out in turn.

    Args:
        items: the items.
        n_folds: number of folds, at least 2.
        seed: the study's seed.

    Returns:
        (n,) fold number, 0 … n_folds − 1.

    Raises:
        InputError: fewer images than folds, or fewer than 2 folds.
    """
    n_groups = np.unique(items.group[items.judged]).size
    if n_folds < 2 or n_groups < n_folds:
        raise InputError(
            f"{n_folds} folds need at least 2 folds and as many images, found {n_groups} images; "
            "lower the number of folds or add items"
        )
    # scikit-learn deals groups out in the order of rows: that of the ids, not the caller's.
    order = np.argsort(items.item_id, kind="stable")
    judged = order[items.judged[order]]
    fold = np.empty(items.n_items, dtype=np.int64)
    fold[judged] = _grouped_folds(
        _strata(items, judged),
        items.group[judged],
        n_folds=n_folds,
        seed=sklearn_seed("folds", seed),
    )
    if not items.judged.all():
        groups, code = np.unique(items.group, return_inverse=True)
        of_group = np.arange(groups.size) % n_folds
        of_group[code[judged]] = fold[judged]
        fold = of_group[code]
    return fold


def plan_folds(items: ProbeItems, *, n_folds: int = 5, n_inner: int = 3, seed: str) -> FoldPlan:
    """All splits with their inner folds, made once and passed to every probe.

    Args:
        items: the items.
        n_folds: outer folds.
        n_inner: inner folds of each training part (fewer where it has fewer images).
        seed: the study's seed.

    Raises:
        InputError: as `assign_folds`; fewer than 2 inner folds.
    """
    if n_inner < 2:
        raise InputError(f"choosing a penalty needs at least 2 inner folds: {n_inner}")
    fold = assign_folds(items, n_folds=n_folds, seed=seed)
    order = np.argsort(items.item_id, kind="stable")
    splits = []
    for held_out in range(n_folds):
        train = order[(fold[order] != held_out) & items.judged[order]]
        test = order[fold[order] == held_out]
        seed_of_part = sklearn_seed("inner folds", seed, held_out)
        inner = _inner_folds(items, train, n_inner=n_inner, seed=seed_of_part)
        splits.append(Split(held_out, train, test, inner))
    return FoldPlan(fold, tuple(splits), seed)


def plan_all_items(items: ProbeItems, *, n_inner: int = 3, seed: str) -> FoldPlan:
    """One split that holds nothing out: for a probe that is fitted on all judged items and kept.

    Its inner folds are made as those of any training part, so that layer and penalty are picked
    by the same rule.

    Args:
        items: the items.
        n_inner: inner folds (fewer where there are fewer images).
        seed: the study's seed.

    Raises:
        InputError: fewer than 2 inner folds.
    """
    if n_inner < 2:
        raise InputError(f"choosing a penalty needs at least 2 inner folds: {n_inner}")
    order = np.argsort(items.item_id, kind="stable")
    train = order[items.judged[order]]
    inner = _inner_folds(items, train, n_inner=n_inner, seed=sklearn_seed("all items", seed))
    nothing = np.full(items.n_items, -1, dtype=np.int64)
    return FoldPlan(nothing, (Split(-1, train, train[:0], inner),), seed)


def _inner_folds(
    items: ProbeItems, train: NDArray[np.int64], *, n_inner: int, seed: int
) -> NDArray[np.int64]:
    """(n_train,) inner fold of each row of a training part; all 0 where it has one image."""
    n_groups = np.unique(items.group[train]).size
    if n_groups < 2:
        return np.zeros(train.size, dtype=np.int64)
    return _grouped_folds(
        _strata(items, train),
        items.group[train],
        n_folds=min(n_inner, n_groups),
        seed=seed,
    )

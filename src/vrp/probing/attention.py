"""Supervised attention: the most that a trained model finds in attention (arXiv 2605.08200).

Two stress tests of "attention does not tell": a tree ensemble on 11 hand-made features, and an
MLP on the attention maps themselves.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.tree import ExtraTreeClassifier

from vrp.errors import InputError
from vrp.probing.crossfit import Fitted, ProbeResult, TrainingPart, cross_fit
from vrp.probing.folds import FoldPlan, ProbeItems
from vrp.signals.structural import FEATURE_NAMES

N_TREES = 300
MIN_LEAF_ITEMS = 5
MAP_SIZE = (12, 12)


def _tree_learner(part: TrainingPart, test: NDArray) -> Fitted:
    """The ensemble of scikit-learn's ExtraTreesClassifier, with one tree in memory at a time.

    Its trees grow with the items; all of them together would outgrow any memory.
    """
    # As the ensemble does: one seed a tree, and trees see single precision.
    random = np.random.RandomState(part.seed)
    train, held_out = part.features.astype(np.float32), test.astype(np.float32)
    scores, importances, n_split = np.zeros(len(test)), np.zeros(train.shape[1]), 0
    for _ in range(N_TREES):
        tree = ExtraTreeClassifier(
            max_features="sqrt", min_samples_leaf=MIN_LEAF_ITEMS,
            random_state=random.randint(np.iinfo(np.int32).max),
        )  # fmt: skip
        tree.fit(train, part.correct)
        scores += tree.predict_proba(held_out)[:, 1]
        importances += tree.feature_importances_
        n_split += tree.tree_.node_count > 1
    if n_split:  # a tree that never split has no importances
        importances /= n_split
        importances /= importances.sum()
    return Fitted(scores / N_TREES, weights=importances)


def fit_attention_trees(features: ArrayLike, items: ProbeItems, plan: FoldPlan) -> ProbeResult:
    """Extremely randomised trees on the 11 attention features.

    Each fit's `weights` are the features' importances, which sum to 1.

    Args:
        features: (n, 11) in the order of `FEATURE_NAMES`; NaN where a feature is undefined.
        items: the items.
        plan: their splits.

    Raises:
        InputError: another shape, or an infinite value.
    """
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.shape != (items.n_items, len(FEATURE_NAMES)) or np.isinf(matrix).any():
        raise InputError(
            f"attention trees: features must be ({items.n_items}, {len(FEATURE_NAMES)}) "
            f"without infinite values, found shape {matrix.shape}"
        )
    return cross_fit("attention trees", matrix, items, plan, _tree_learner)


def _overlaps(n_from: int, n_to: int) -> NDArray[np.float64]:
    """(n_to, n_from) share of each source cell that lies in each target cell; columns sum to 1."""
    source, target = np.arange(n_from + 1) / n_from, np.arange(n_to + 1) / n_to
    low = np.maximum(target[:-1, None], source[None, :-1])
    high = np.minimum(target[1:, None], source[None, 1:])
    return np.clip(high - low, 0.0, None) * n_from


def area_resample(maps: NDArray[np.floating], size: tuple[int, int] = MAP_SIZE) -> NDArray:
    """Resample attention maps to another grid by area, keeping their mass.

    A target cell receives of every source cell the share that lies in it, so that each map's sum
    is unchanged, and a map of the target's size stays as it is.

    Args:
        maps: (…, grid_h, grid_w)
        size: target (grid_h, grid_w).

    Returns:
        (…, *size) float64.
    """
    rows = _overlaps(maps.shape[-2], size[0])
    columns = _overlaps(maps.shape[-1], size[1])
    return rows @ np.asarray(maps, dtype=np.float64) @ columns.T


def concatenate_maps(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """M(l) of all layers as one feature row per item, on one grid for all items.

    Grids differ between items where a family keeps the image's aspect ratio (Qwen2-VL), so every
    map is brought to `MAP_SIZE` by `area_resample`: a feature is then the attention on one *part of
    the image*, which padding would not give.

    Args:
        maps: one (n_layers, grid_h, grid_w) per item.

    Returns:
        (n, n_layers · 12 · 12) float32.

    Raises:
        InputError: no items, or maps that differ in their layers.
    """
    depths = {np.shape(m)[0] if np.ndim(m) == 3 else -1 for m in maps}
    if len(depths) != 1 or -1 in depths:
        raise InputError(
            "attention maps must be (n_layers, grid_h, grid_w) with the same layers for all items"
        )
    rows = np.empty((len(maps), depths.pop() * MAP_SIZE[0] * MAP_SIZE[1]), dtype=np.float32)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, item in enumerate(maps):
        by_shape.setdefault(np.shape(item), []).append(index)
    for indices in by_shape.values():
        stack = np.stack([maps[i] for i in indices])
        rows[indices] = area_resample(stack).reshape(len(indices), -1)
    return rows

"""Signals of single attention heads, and how much the most influential ones tell.

Source: arXiv 2605.08200 (R² of the top-k heads' attention with correctness).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.signals.structural import (
    cluster_count_components,
    cluster_count_dbscan,
    renormalise,
    spatial_entropy,
)

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
ClusterDefinition = Literal["dbscan", "components"]

_CLUSTER_COUNT = {"dbscan": cluster_count_dbscan, "components": cluster_count_components}


class HeadSignals(NamedTuple):
    """Signals of every head, each of the rows' leading shape, such as (n_layers, n_heads)."""

    spatial_entropy: FloatArray
    """H_s of the head's own renormalised map, nats."""
    cluster_count: FloatArray
    """C_k of the head's own map."""
    image_mass: FloatArray
    """Share of the head's attention on image tokens."""


class HeadRanking(NamedTuple):
    """Heads ordered by how strongly they write to the answer's logit."""

    order: IndexArray
    """(n_layers · n_heads,), flat indices layer · n_heads + head, strongest first."""
    mean_contribution: FloatArray
    """(n_layers, n_heads), signed mean over items, in logits."""
    n_items: int
    """Items with finite contributions, over which the means run."""


class TopHeadR2(NamedTuple):
    """In-sample fit of correctness from the top-k heads, one entry for each k."""

    k: IndexArray
    """How many heads enter."""
    r2: FloatArray
    """In-sample R²; it can only grow with k, even where the heads know nothing."""
    adjusted_r2: FloatArray
    """R² corrected for the number of regressors; NaN where too few items are left."""
    n_items: int
    """Items with finite features, over which every fit runs."""


def head_signals(
    rows: ArrayLike, *, grid_h: int, grid_w: int, definition: ClusterDefinition = "dbscan"
) -> HeadSignals:
    """Compute H_s, C_k and image mass of every head.

    Shapes: rows (..., n_layers, n_heads, S), attention to the image tokens, S = grid_h · grid_w;
    each result (..., n_layers, n_heads). NaN for a head whose row is unusable. Raises ValueError
    where S does not fit the grid or the definition is unknown.
    """
    if definition not in _CLUSTER_COUNT:
        raise ValueError(f"cluster definition {definition!r} is none of {list(_CLUSTER_COUNT)}")
    attention = renormalise(rows)
    leading, n_tokens = attention.map.shape[:-1], attention.map.shape[-1]
    if n_tokens != grid_h * grid_w:
        raise ValueError(f"{n_tokens} image tokens do not fit a grid of {grid_h}×{grid_w}")
    grids = attention.map.reshape(*leading, grid_h, grid_w)
    return HeadSignals(
        spatial_entropy(attention.map), _CLUSTER_COUNT[definition](grids), attention.image_mass
    )


def rank_heads(contributions: ArrayLike) -> HeadRanking:
    """Rank heads by |mean direct contribution to the answer's logit|, ties by index.

    Shapes: (n_items, n_layers, n_heads), in logits. Items with a non-finite value are left out.
    Raises ValueError where none is left.
    """
    values = np.asarray(contributions, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"contributions need (n_items, n_layers, n_heads), got {values.shape}")
    finite = np.isfinite(values).all(axis=(1, 2))
    if not finite.any():
        raise ValueError("no item has finite contributions of all heads")
    mean = values[finite].mean(axis=0)
    order = np.argsort(-np.abs(mean).ravel(), kind="stable")
    return HeadRanking(order, mean, int(finite.sum()))


def top_head_r2(
    features: ArrayLike, correct: ArrayLike, order: ArrayLike, ks: Sequence[int]
) -> TopHeadR2:
    """Fit correctness linearly, with intercept, on the features of the top-k heads.

    Args:
        features: (n_items, n_heads_total), or (n_items, n_heads_total, n_features) for several
            signals of each head.
        correct: (n_items,), 0 or 1.
        order: flat head indices, strongest first (`rank_heads`).
        ks: numbers of heads, each from 1 to len(order).

    Items with a non-finite feature among the largest k's heads are left out of every fit, so that
    all k are judged on the same items. R² is NaN where correctness does not vary. Raises
    ValueError for shapes or counts that do not fit.
    """
    values = np.asarray(features, dtype=np.float64)
    target = np.asarray(correct, dtype=np.float64)
    ranked = np.asarray(order, dtype=np.intp)
    if values.ndim not in (2, 3) or target.shape != values.shape[:1]:
        raise ValueError(f"features {values.shape} do not fit correctness {target.shape}")
    if not ks or min(ks) < 1 or max(ks) > len(ranked):
        raise ValueError(f"numbers of heads {list(ks)} must lie in 1 … {len(ranked)}")
    used = values[:, ranked[: max(ks)]].reshape(len(values), max(ks), -1)
    finite = np.isfinite(used).all(axis=(1, 2)) & np.isfinite(target)
    used, target = used[finite], target[finite]
    fits = [_r2(used[:, :k].reshape(len(used), -1), target) for k in ks]
    return TopHeadR2(
        k=np.asarray(ks, dtype=np.intp),
        r2=np.array([r2 for r2, _ in fits]),
        adjusted_r2=np.array([adjusted for _, adjusted in fits]),
        n_items=len(target),
    )


def _r2(regressors: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Return R² and adjusted R² of an ordinary least-squares fit with intercept."""
    n_items = len(target)
    if n_items == 0 or np.ptp(target) == 0:
        return float("nan"), float("nan")
    centred = regressors - regressors.mean(axis=0)
    scale = centred.std(axis=0)
    # Standardised columns keep the rank decision free of units; constant ones add no rank.
    centred = centred / np.where(scale > 0, scale, 1.0)
    deviation = target - target.mean()
    coefficients, _, rank, _ = np.linalg.lstsq(centred, deviation, rcond=None)
    residual = deviation - centred @ coefficients
    r2 = 1.0 - float(residual @ residual) / float(deviation @ deviation)
    freedom = n_items - int(rank) - 1
    adjusted = 1.0 - (1.0 - r2) * (n_items - 1) / freedom if freedom > 0 else float("nan")
    return r2, adjusted

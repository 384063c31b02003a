"""Signals of single attention heads, and how much the most influential ones tell.

Source: arXiv 2605.08200 (R² of the top-k heads' attention with correctness).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]


class HeadRanking(NamedTuple):
    """Heads ordered by how strongly they write to the answer's logit."""

    order: IndexArray
    """(n_layers · n_heads,), flat indices layer · n_heads + head, strongest first."""
    mean_contribution: FloatArray
    """(n_layers, n_heads), signed mean over items, in logits."""


class TopHeadR2(NamedTuple):
    """In-sample fit of correctness from the top-k heads, one entry for each k."""

    r2: FloatArray
    """(n_k,) in-sample R²; it can only grow with k, even where the heads know nothing."""
    adjusted_r2: FloatArray
    """R² corrected for the number of regressors; NaN where too few items are left."""
    n_items: int
    """Items with finite features, over which every fit runs."""


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
    return HeadRanking(order, mean)


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

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
    null_r2: FloatArray
    """(n_k,) mean R² of permuted correctness: what as many regressors explain of nothing."""
    p: FloatArray
    """(n_k,) share of permutations that explain as much, one added to count and total."""
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
    features: ArrayLike,
    correct: ArrayLike,
    order: ArrayLike,
    ks: Sequence[int],
    *,
    permuted: ArrayLike | None = None,
) -> TopHeadR2:
    """Fit correctness linearly, with intercept, on the features of the top-k heads.

    Args:
        features: (n_items, n_heads_total), or (n_items, n_heads_total, n_features) for several
            signals of each head.
        correct: (n_items,), 0 or 1.
        order: flat head indices, strongest first (`rank_heads`).
        ks: numbers of heads, each from 1 to len(order).
        permuted: (n_items, n_permutations) correctness in other orders; None: no null.

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
    others = np.zeros((len(values), 0)) if permuted is None else np.asarray(permuted, np.float64)
    targets = np.column_stack([target, others])[finite]
    fits = [_r2(used[finite][:, :k].reshape(len(targets), -1), targets) for k in ks]
    null = [r2[1:] for r2, _ in fits]
    return TopHeadR2(
        r2=np.array([r2[0] for r2, _ in fits]),
        adjusted_r2=np.array([adjusted for _, adjusted in fits]),
        null_r2=np.array([values.mean() if values.size else np.nan for values in null]),
        p=np.array([
            (1 + (values >= r2[0]).sum()) / (1 + values.size) if values.size else np.nan
            for values, (r2, _) in zip(null, fits, strict=True)
        ]),
        n_items=len(targets),
    )  # fmt: skip


def _r2(regressors: FloatArray, targets: FloatArray) -> tuple[FloatArray, float]:
    """R² of ordinary least squares with intercept, (n_targets,), and the first one adjusted."""
    n_items = len(targets)
    if n_items == 0 or np.ptp(targets[:, 0]) == 0:
        return np.full(targets.shape[1], np.nan), float("nan")
    centred = regressors - regressors.mean(axis=0)
    scale = centred.std(axis=0)
    # Standardised columns keep the rank decision free of units; constant ones add no rank.
    basis, singular, _ = np.linalg.svd(
        centred / np.where(scale > 0, scale, 1.0), full_matrices=False
    )
    kept = singular > singular.max(initial=0.0) * max(centred.shape) * np.finfo(float).eps
    deviation = targets - targets.mean(axis=0)
    explained = (basis[:, kept].T @ deviation) ** 2
    r2 = explained.sum(axis=0) / (deviation**2).sum(axis=0)
    freedom = n_items - int(kept.sum()) - 1
    adjusted = 1.0 - (1.0 - r2[0]) * (n_items - 1) / freedom if freedom > 0 else float("nan")
    return r2, float(adjusted)

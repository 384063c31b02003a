"""Mechanistic signals: summaries over layers of the logit lens and of component contributions.

Decoder layers are numbered 0 … n_layers − 1; layer l is the residual after decoder layer l.

Source: arXiv 2605.08200 (component contribution, late-stage forcing).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

LATE_SHARE = 0.25
"""Share of the layers that are late: round(LATE_SHARE · n_layers), at least one."""


class LayerPeak(NamedTuple):
    """Largest value over layers, and its layer."""

    value: FloatArray
    """The largest value, in its own unit."""
    layer: FloatArray
    """The first decoder layer that has it; NaN where a value is NaN."""


class ContributionShares(NamedTuple):
    """Shares of the margin's growth over all items: ratios of sums, never means of ratios."""

    attention: float
    """Attention's share of the growth; with the MLPs' it makes 1, yet either may leave [0, 1]."""
    mlp: float
    """The MLPs' share of the growth."""
    n_items: int
    """Items with finite contributions, over which the sums run."""


def layer_peak(values: ArrayLike) -> LayerPeak:
    """Find the largest value over layers and the first layer with it: (..., n_layers) → (...)."""
    by_layer = np.asarray(values, dtype=np.float64)
    peak = by_layer.max(axis=-1)
    return LayerPeak(peak, np.where(np.isnan(peak), np.nan, by_layer.argmax(axis=-1)))


def contribution_shares(attention: ArrayLike, mlp: ArrayLike) -> ContributionShares:
    """Share the growth of the decided margin between attention and MLPs (arXiv 2605.08200).

    Both are (n_items, n_layers) contributions in logits. Items with a non-finite value are left
    out and `n_items` counts the rest. Shares are NaN where nothing grew in sum or no item is left.
    """
    by_attention = np.asarray(attention, dtype=np.float64)
    by_mlp = np.asarray(mlp, dtype=np.float64)
    if by_attention.ndim != 2 or by_attention.shape != by_mlp.shape:
        raise ValueError(
            "contributions need one shape (n_items, n_layers), "
            f"got {by_attention.shape} and {by_mlp.shape}"
        )
    finite = (np.isfinite(by_attention) & np.isfinite(by_mlp)).all(axis=1)
    attention_sum, mlp_sum = (float(part[finite].sum()) for part in (by_attention, by_mlp))
    growth = attention_sum + mlp_sum
    # Ratios of sums: an item whose margin hardly grew would have shares without bound.
    divisor = growth if growth != 0 else np.nan
    return ContributionShares(
        attention=attention_sum / divisor,
        mlp=mlp_sum / divisor,
        n_items=int(finite.sum()),
    )


def first_late_layer(n_layers: int) -> int:
    """Return the first of the late layers (`LATE_SHARE`)."""
    return n_layers - max(1, round(LATE_SHARE * n_layers))


def late_update(residual_updates: ArrayLike) -> FloatArray:
    """Average residual updates over the late layers: (..., n_layers) → (...).

    A large value says that the last layers rewrite the image tokens (late-stage forcing).
    """
    updates = np.asarray(residual_updates, dtype=np.float64)
    return updates[..., first_late_layer(updates.shape[-1]) :].mean(axis=-1)

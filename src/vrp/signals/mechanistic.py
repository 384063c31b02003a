"""Mechanistic signals: the logit lens and what each component adds to the answer's margin.

Logits here are those of the lens: a layer's residual after the final norm and the unembedding.
Decoder layers are numbered 0 … n_layers − 1; layer l is the residual after decoder layer l.

Source: arXiv 2605.08200 (truth margin, component contribution, late-stage forcing).
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

LATE_SHARE = 0.25


class DecisionPair(NamedTuple):
    """The two tokens between which an answer is decided."""

    top: IndexArray
    """Token id of the highest logit."""
    runner_up: IndexArray
    """Token id of the second highest."""


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
    attention_by_layer: FloatArray
    """(n_layers,), each layer's attention as a share of the whole growth."""
    mlp_by_layer: FloatArray
    """(n_layers,), each layer's MLP as a share of the whole growth."""
    growth: float
    """Mean growth of the pair's logit difference from the embedding to the last layer."""
    n_items: int
    """Items with finite contributions, over which the sums run."""


class LateForcing(NamedTuple):
    """Late part of the residual update of the image tokens."""

    late: FloatArray
    """Mean update over the last quarter of layers."""
    earlier: FloatArray
    """Mean update over the layers before them."""
    ratio: FloatArray
    """late / earlier: over 1 where the last layers rewrite the image tokens most."""
    peak_layer: FloatArray
    """The first decoder layer with the largest update; NaN where an update is NaN."""


def truth_margin(logits: ArrayLike, truth_token_ids: Collection[int]) -> FloatArray:
    """Compute ΔM: the best logit of the reference's tokens minus the best of all others.

    A diagnostic that holds the label: it must never feed a predictor (arXiv 2605.08200).

    Args:
        logits: (..., vocabulary) → margins of shape (...), in logits.
        truth_token_ids: first tokens of every surface form that parses to the reference.

    NaN where either maximum is not finite. Raises ValueError for no token, one outside the
    vocabulary, or a set that leaves no other.
    """
    values = np.asarray(logits, dtype=np.float64)
    vocabulary = values.shape[-1]
    truth = sorted(set(truth_token_ids))
    if not truth or truth[0] < 0 or truth[-1] >= vocabulary or len(truth) == vocabulary:
        raise ValueError(
            f"the reference's tokens {truth[:8]} must be some, not all, of 0 … {vocabulary - 1}"
        )
    is_truth = np.zeros(vocabulary, dtype=np.bool_)
    is_truth[truth] = True
    best_truth = values[..., truth].max(axis=-1)
    best_other = values.max(axis=-1, where=~is_truth, initial=-np.inf)
    return _difference(best_truth, best_other)


def decision_pair(logits: ArrayLike) -> DecisionPair:
    """Find the top token and its runner-up: (..., vocabulary) → two arrays (...).

    Ties go to the lower token id. Raises ValueError for fewer than two tokens or a NaN logit.
    """
    values = _two_or_more(logits)
    if np.isnan(values).any():
        raise ValueError("no top token can be named among logits that are NaN")
    top = values.argmax(axis=-1)
    rest = values.copy()
    np.put_along_axis(rest, top[..., None], -np.inf, axis=-1)
    runner_up = rest.argmax(axis=-1)
    # With −inf everywhere else the first maximum may be the top itself.
    runner_up = np.where(runner_up == top, np.where(top == 0, 1, 0), runner_up)
    return DecisionPair(top, runner_up)


def decision_margin(logits: ArrayLike) -> FloatArray:
    """Compute the top token's logit minus its runner-up's: (..., vocabulary) → (...), ≥ 0.

    NaN where a logit is NaN or either of the two is infinite. Raises ValueError for fewer than
    two tokens.
    """
    values = _two_or_more(logits)
    pair = np.partition(values, values.shape[-1] - 2, axis=-1)[..., -2:]
    return _difference(pair[..., 1], pair[..., 0])


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
    attention_sum = by_attention[finite].sum(axis=0)
    mlp_sum = by_mlp[finite].sum(axis=0)
    n_items = int(finite.sum())
    growth = float(attention_sum.sum() + mlp_sum.sum())
    # Ratios of sums: an item whose margin hardly grew would have shares without bound.
    divisor = growth if growth != 0 else np.nan
    return ContributionShares(
        attention=float(attention_sum.sum() / divisor),
        mlp=float(mlp_sum.sum() / divisor),
        attention_by_layer=attention_sum / divisor,
        mlp_by_layer=mlp_sum / divisor,
        growth=growth / n_items if n_items else float("nan"),
        n_items=n_items,
    )


def residual_update(residuals: ArrayLike) -> FloatArray:
    """Compute ‖h(l) − h(l−1)‖₂, mean over image tokens (arXiv 2605.08200).

    Shapes: (..., n_layers + 1, S, d_model), the input to layer 0 first → (..., n_layers). NaN
    where a residual is not finite.
    """
    states = np.asarray(residuals, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(np.diff(states, axis=-3), axis=-1)
        update = norms.mean(axis=-1)
    return np.where(np.isfinite(update), update, np.nan)


def late_forcing(residual_updates: ArrayLike, share: float = LATE_SHARE) -> LateForcing:
    """Summarise late-stage forcing: (..., n_layers) updates → four arrays (...).

    Late are the last round(share · n_layers) layers, at least one. With no layer before them
    `earlier` and `ratio` are NaN. Raises ValueError for a share outside (0, 1].
    """
    updates = np.asarray(residual_updates, dtype=np.float64)
    if not 0 < share <= 1:
        raise ValueError(f"the share of late layers lies in (0, 1], got {share}")
    first_late = updates.shape[-1] - max(1, round(share * updates.shape[-1]))
    late = updates[..., first_late:].mean(axis=-1)
    earlier = np.full_like(late, np.nan)
    if first_late:
        earlier = updates[..., :first_late].mean(axis=-1)
    ratio = np.full_like(late, np.nan)
    with np.errstate(invalid="ignore"):  # infinite updates
        np.divide(late, earlier, out=ratio, where=earlier > 0)
    return LateForcing(late, earlier, ratio, layer_peak(updates).layer)


def _two_or_more(logits: ArrayLike) -> FloatArray:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] < 2:
        raise ValueError(f"a decision needs at least two tokens, got shape {values.shape}")
    return values


def _difference(first: FloatArray, second: FloatArray) -> FloatArray:
    """Subtract where both are finite, NaN elsewhere."""
    finite = np.isfinite(first) & np.isfinite(second)
    return np.subtract(first, second, out=np.full(first.shape, np.nan), where=finite)

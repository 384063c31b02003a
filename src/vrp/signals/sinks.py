"""Attention sinks: image tokens that draw attention whatever the image shows.

A token is a sink in a layer where its residual norm is an outlier among the item's image tokens
(massive activations mark sinks: Sun et al. 2024; in vision-language models: Kang et al. 2025), or
where its place in the grid holds much attention in most items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.signals.structural import renormalise

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

OUTLIER = 3.5
"""Modified z-score over which a norm is an outlier (Iglewicz & Hoaglin 1993)."""
_MAD_OF_NORMAL = 0.6745  # median absolute deviation of a standard normal
HEAVY_SHARE = 0.05
"""Share of a map's mass that a sink's place holds in most items."""
_TIMES_EVEN = 4.0  # … and so many times what an even map gives it, where there are few tokens


def outlier_tokens(norms: ArrayLike) -> BoolArray:
    """Mark tokens whose norm is far over the median: modified z-score over 3.5.

    Shapes: norms (..., S) → (..., S). None is marked where half of the norms are equal, or where
    one is not finite.
    """
    values = np.asarray(norms, dtype=np.float64)
    finite = np.isfinite(values).all(axis=-1, keepdims=True)
    known = np.where(finite, values, 0.0)
    above = known - np.median(known, axis=-1, keepdims=True)
    spread = np.median(np.abs(above), axis=-1, keepdims=True)
    return (_MAD_OF_NORMAL * above > OUTLIER * spread) & (spread > 0)


class HeavyPlaces:
    """Counts, over all items of a model, where the maps of one grid are heavy."""

    def __init__(self) -> None:
        self._n_items = 0
        self._n_heavy: NDArray[np.int64] | None = None

    def add(self, layer_maps: ArrayLike) -> None:
        """Count maps (n_items, n_layers, S); a NaN is not heavy."""
        maps = np.asarray(layer_maps)
        least = max(HEAVY_SHARE, _TIMES_EVEN / maps.shape[-1])
        heavy = (maps > least).sum(axis=0)
        self._n_heavy = heavy if self._n_heavy is None else self._n_heavy + heavy
        self._n_items += len(maps)

    def sinks(self) -> BoolArray:
        """Return (n_layers, S): places that are heavy in more than half of the items."""
        assert self._n_heavy is not None
        return self._n_heavy > self._n_items / 2


def sink_mask(flat: Sequence[int], n_layers: int, n_tokens: int) -> BoolArray:
    """Return (n_layers, S) from the indices layer·S + token of an item's sinks."""
    mask = np.zeros(n_layers * n_tokens, dtype=bool)
    mask[np.asarray(flat, dtype=np.intp)] = True
    return mask.reshape(n_layers, n_tokens)


def without_sinks(layer_maps: ArrayLike, sinks: BoolArray) -> FloatArray:
    """Renormalise maps over the tokens that are no sinks: (..., S) → (..., S).

    NaN where a map is unusable, or nothing of its mass is left.
    """
    return renormalise(np.where(sinks, 0.0, np.asarray(layer_maps, dtype=np.float64))).map

"""Attention sinks: image tokens that draw attention whatever the image shows.

A token is a sink in a layer where its residual norm is an outlier among the item's image tokens
(massive activations mark sinks: Sun et al. 2024; in vision-language models: Kang et al. 2025), or
where its place in the grid holds much attention in most images.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.signals.structural import renormalise

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

OUTLIER = 3.5
"""Modified z-score over which a norm is an outlier (Iglewicz & Hoaglin 1993)."""
_MAD_OF_NORMAL = 0.6745  # median absolute deviation of a standard normal
HEAVY_SHARE = 0.05
"""Share of a map's mass that a sink's place holds in most images."""
MIN_IMAGES = 20
"""Images of one grid from which it is known which places are heavy in most of them."""
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
    """Counts, over the images of a model's items, where the maps of one grid are heavy."""

    def __init__(self) -> None:
        self._images: set[str] = set()
        self._n_heavy: NDArray[np.int64] | None = None

    def add(self, layer_maps: ArrayLike, image: str) -> None:
        """Count the maps (n_layers, S) of an item; each image counts once, a NaN does not."""
        maps = np.asarray(layer_maps)
        if image in self._images or not np.isfinite(maps).all():
            return
        self._images.add(image)
        heavy = (maps > max(HEAVY_SHARE, _TIMES_EVEN / maps.shape[-1])).astype(np.int64)
        self._n_heavy = heavy if self._n_heavy is None else self._n_heavy + heavy

    def sinks(self) -> BoolArray | None:
        """Return (n_layers, S): places that are heavy in more than half of the images.

        None where there are too few images to tell a sink from what one of them shows.
        """
        if self._n_heavy is None or len(self._images) < MIN_IMAGES:
            return None
        return self._n_heavy > len(self._images) / 2


Grid = tuple[int, int]
"""Rows and columns of image tokens."""


def heavy_places(maps: Iterable[tuple[Grid, ArrayLike, str]]) -> dict[Grid, BoolArray]:
    """Return grid → (n_layers, S): places that are sinks in most images that have this grid.

    Grids of too few images are left out.

    Args:
        maps: of every item its grid, its maps (n_layers, S) and its image.
    """
    counts: defaultdict[Grid, HeavyPlaces] = defaultdict(HeavyPlaces)
    for grid, layer_maps, image in maps:
        counts[grid].add(layer_maps, image)
    found = {grid: places.sinks() for grid, places in counts.items()}
    return {grid: sinks for grid, sinks in found.items() if sinks is not None}


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

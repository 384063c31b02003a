"""Recipes that make one number an item of attention: all combinations of usual choices.

That one averaging recipe shows nothing persuades nobody: a claim about attention is judged over all
of them, as a specification curve (Simonsohn, Simmons & Nelson 2020).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.signals.registry import MapStack, SignalInputs
from vrp.signals.sinks import without_sinks
from vrp.signals.structural import (
    cluster_count_components,
    cluster_count_dbscan,
    relative_spatial_entropy,
    renormalise,
)

FloatArray = NDArray[np.float64]
MAP, ALL_HEADS, TOP_HEADS = "mean map", "each head", "top 10 heads"
"""Heads are averaged before the map is measured, or measured one by one and then averaged."""
N_TOP_HEADS = 10
KEPT, REMOVED = "kept", "removed"
EACH_LAYER, TOGETHER = "each layer", "all layers together"
"""What sums to one: every layer's map, or the layers' sum, in which layers that look more at the
image weigh more."""
ENTROPY, DBSCAN, COMPONENTS = "H_s / log S", "C_k (DBSCAN)", "C_k (components)"


class Recipe(NamedTuple):
    """How attention becomes one number an item."""

    heads: str
    """`mean map`, `each head` or `top 10 heads` (by the size of their mean contribution)."""
    layers: str
    """Which layers are averaged."""
    sinks: str
    """`kept` or `removed`."""
    normalisation: str
    """What sums to one before layers are averaged."""
    measure: str
    """What is measured; low is reliable."""


LAYERS: Mapping[str, Callable[[int], slice]] = {
    "all": lambda n: slice(0, n),
    "first half": lambda n: slice(0, max(1, n // 2)),
    "second half": lambda n: slice(n // 2, n),
    "middle half": lambda n: slice(n // 4, max(n // 4 + 1, n - n // 4)),
    "last quarter": lambda n: slice(min(n - 1, n - n // 4), n),
    "last": lambda n: slice(n - 1, n),
}
"""Name → which of n layers."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "heads": (MAP, ALL_HEADS, TOP_HEADS),
    "layers": tuple(LAYERS),
    "sinks": (KEPT, REMOVED),
    "normalisation": (EACH_LAYER, TOGETHER),
    "measure": (ENTROPY, DBSCAN, COMPONENTS),
}
"""What each part of a recipe may be."""


def layer_choices(n_layers: int) -> dict[str, slice]:
    """Return name → layers; of choices that are the same in a model of few layers, the first."""
    found: dict[str, slice] = {}
    for name, choose in LAYERS.items():
        if (chosen := choose(n_layers)) not in found.values():
            found[name] = chosen
    return found


def map_recipes(inputs: SignalInputs, *, with_sinks: bool) -> dict[Recipe, FloatArray]:
    """Values of every recipe that measures the map averaged over heads, (n_items,) each.

    Args:
        inputs: the batch, with attention maps.
        with_sinks: whether sinks are known, so that they can be removed.
    """
    found: dict[Recipe, FloatArray] = {}
    for stack in inputs.map_stacks():
        for recipe, values in _of_stack(stack, with_sinks):
            column = found.setdefault(recipe, np.full(inputs.n_items, np.nan))
            column[stack.items] = values
    return found


def _of_stack(stack: MapStack, with_sinks: bool) -> Iterator[tuple[Recipe, FloatArray]]:
    n_layers = stack.maps.shape[1]
    for sinks in (KEPT, REMOVED) if with_sinks else (KEPT,):
        maps = stack.maps if sinks == KEPT else without_sinks(stack.maps, stack.sinks)
        left = stack.image_mass
        if sinks == REMOVED:
            left = left * np.where(stack.sinks, 0.0, stack.maps).sum(axis=-1)
        for name, some in layer_choices(n_layers).items():
            weights = {EACH_LAYER: np.ones_like(left[:, some])}
            if weights[EACH_LAYER].shape[1] > 1:  # of one layer both are the same
                weights[TOGETHER] = left[:, some]
            for normalisation, weight in weights.items():
                average = renormalise((maps[:, some] * weight[..., None]).sum(axis=1)).map
                for measure, values in _measures(average, stack, sinks).items():
                    yield Recipe(MAP, name, sinks, normalisation, measure), values


def _measures(average: FloatArray, stack: MapStack, sinks: str) -> dict[str, FloatArray]:
    grids = average.reshape(-1, stack.grid_h, stack.grid_w)
    entropy = relative_spatial_entropy(average)
    if sinks == REMOVED:  # S is the tokens that are left: their number says nothing then
        with np.errstate(divide="ignore", invalid="ignore"):
            n_left = (average > 0).sum(axis=-1)
            entropy = entropy * np.log(average.shape[-1]) / np.log(n_left)
    return {
        ENTROPY: entropy,
        DBSCAN: cluster_count_dbscan(grids),
        COMPONENTS: cluster_count_components(grids),
    }


def head_recipes(
    entropy: NDArray[np.float32],
    clusters: NDArray[np.float32],
    n_image_tokens: NDArray[np.floating],
    order: NDArray[np.integer] | None,
) -> dict[Recipe, FloatArray]:
    """Values of every recipe that measures heads one by one, (n_items,) each.

    Args:
        entropy: (n_items, n_layers, n_heads) H_s of each head.
        clusters: (n_items, n_layers, n_heads) C_k of each head, by DBSCAN.
        n_image_tokens: (n_items,) S.
        order: heads, as layer·n_heads + head, by falling size of their mean contribution; None:
            not known.
    """
    n_items, n_layers, _ = entropy.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = entropy / np.log(n_image_tokens)[:, None, None]
    found = {}
    for measure, values in ((ENTROPY, relative), (DBSCAN, clusters)):
        for name, some in layer_choices(n_layers).items():
            recipe = Recipe(ALL_HEADS, name, KEPT, EACH_LAYER, measure)
            of_layers = values[:, some].reshape(n_items, -1)
            found[recipe] = of_layers.mean(axis=1, dtype=np.float64)
        if order is not None:
            top = values.reshape(n_items, -1)[:, order[:N_TOP_HEADS]]
            recipe = Recipe(TOP_HEADS, "all", KEPT, EACH_LAYER, measure)
            found[recipe] = top.mean(axis=1, dtype=np.float64)
    return found

"""Per-layer columns as arrays, and their means over the images that items share."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vrp.plots.panels import line_key, ribbon
from vrp.plots.style import RIGHT, WRONG
from vrp.stats.clusters import clustered_mean, numbered
from vrp.tables.arrays import as_array

# Dashes let the other curve show through where the two lie on each other.
_RIGHT_LOOK: dict[str, Any] = {"colour": RIGHT, "label": "right"}
_WRONG_LOOK: dict[str, Any] = {
    "colour": WRONG, "label": "wrong", "linestyle": (0, (4, 2)), "markerfacecolor": "white",
}  # fmt: skip


class MeanInterval(NamedTuple):
    """Mean over items and its 95% interval, one entry for each column of values."""

    mean: NDArray[np.float64]
    """(k,) NaN where no item has a value."""
    low: NDArray[np.float64]
    """(k,) lower end, from a standard error clustered by image; NaN for fewer than two images."""
    high: NDArray[np.float64]
    """(k,) upper end."""


def by_layer(column: pl.Series) -> NDArray[np.float64]:
    """A column of lists over layers as an array (n_items, n_layers)."""
    return as_array(column).astype(np.float64)


def clustered_means(values: NDArray[np.float64], groups: NDArray) -> MeanInterval:
    """Mean over items of each column of `values` (n, k); items of one image move together.

    Args:
        values: NaN where missing; such items are left out of that column alone.
        groups: (n,) image of each item.
    """
    codes, n_images = numbered(groups)
    means = [
        clustered_mean(column, codes, n_images=n_images).estimate("clustered-t")
        for column in values.T
    ]
    return MeanInterval(*(np.array(ends) for ends in zip(*(m[:3] for m in means), strict=True)))


def draw_right_and_wrong(
    ax: Axes, values: NDArray[np.float64], right: NDArray[np.bool_], groups: NDArray
) -> None:
    """Mean by layer over the items answered right and over those answered wrong.

    Args:
        ax: the panel.
        values: (n_items, n_layers).
        right: (n_items,) whether the greedy answer is right.
        groups: (n_items,) image of each item.
    """
    layers = np.arange(values.shape[1])
    for chosen, look in ((right, _RIGHT_LOOK), (~right, _WRONG_LOOK)):
        if chosen.any():
            found = clustered_means(values[chosen], groups[chosen])
            ribbon(ax, layers, found.mean, found.low, found.high, **look)


def right_and_wrong_keys() -> list[Artist]:
    """The key to `draw_right_and_wrong`."""
    right = line_key("right answers", RIGHT)
    return [right, line_key("wrong answers", WRONG, linestyle=_WRONG_LOOK["linestyle"])]


def counts_note(values: NDArray[np.float64], right: NDArray[np.bool_]) -> str:
    """Numbers of right and wrong answers with a value in any layer.

    Args:
        values: (n_items, n_layers).
        right: (n_items,) whether the greedy answer is right.
    """
    shown = np.isfinite(values).any(axis=1)
    n_right, n_wrong = int((shown & right).sum()), int((shown & ~right).sum())
    return f"{n_right:,} right, {n_wrong:,} wrong answers"

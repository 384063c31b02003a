"""Per-layer columns as arrays, and their means over the images that items share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vrp.plots.marks import INTERVAL, TEXT, WHOLE, interval_of
from vrp.plots.panels import counted, line_key, marks_ribbon
from vrp.plots.style import RIGHT, WRONG
from vrp.stats.auroc import van_elteren_weight
from vrp.stats.clusters import clustered_mean, mean_of, n_distinct, numbered
from vrp.tables.arrays import as_array

BY_ANSWER = {"model": TEXT, "quantity": TEXT, "answers": TEXT, "layer": WHOLE, **INTERVAL}
"""Columns of the marks of `right_and_wrong`: means by layer of right and of wrong answers."""

# Dashes let the other curve show through where the two lie on each other.
_LOOKS: dict[str, dict[str, Any]] = {
    "right": {"colour": RIGHT},
    "wrong": {"colour": WRONG, "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
}


def by_layer(column: pl.Series) -> NDArray[np.float64]:
    """A column of lists over layers as an array (n_items, n_layers)."""
    return as_array(column).astype(np.float64)


def mean_intervals(values: NDArray[np.float64], groups: NDArray) -> list[dict[str, Any]]:
    """Mean over items of each column of `values` (n, k); items of one image move together.

    Args:
        values: NaN where missing; such items are left out of that column alone.
        groups: (n,) image of each item.

    Returns:
        (k) columns of `INTERVAL`: the 95% interval is from a standard error clustered by image,
        NaN for fewer than two images; the mean is NaN where no item has a value.
    """
    codes, n_images = numbered(groups)
    found = []
    for column in values.T:
        mean = clustered_mean(column, codes, n_images=n_images).estimate("clustered-t")
        found.append(dict(zip(INTERVAL, (*mean[:3], mean.n, mean.n_groups), strict=True)))
    return found


def right_and_wrong(
    model: str, quantity: str, values: NDArray[np.float64], frame: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    """Yield marks of the mean by layer, over the items answered right and those answered wrong.

    Both are means over the same strata with the same weights, those of the AUROC within strata
    (van Elteren's): kinds of question that are answered right more often than others would part
    the curves on their own. Strata without right or without wrong answers are left out.

    Args:
        model: the model's name.
        quantity: what is averaged.
        values: (n_items, n_layers).
        frame: (n_items,) rows of `answered_rows`.
    """
    right = frame["answered_right"].to_numpy()
    codes, n_images = numbered(frame["group"].to_numpy())
    cells, weights = _strata(right, frame["stratum"].to_numpy())
    for answers, kind in (("right", right), ("wrong", ~right)):
        chosen = [kind & cell for cell in cells]
        n_groups = n_distinct(codes[np.any(chosen, axis=0)])
        for layer, column in enumerate(values.T if n_groups else ()):
            means = {
                f"stratum {i}": clustered_mean(
                    column[here], codes[here], n_images=n_images, name=f"stratum {i}"
                )
                for i, here in enumerate(chosen)
            }
            mean = mean_of(means, n_groups=n_groups, weights=weights).estimate("clustered-t")
            key = {"model": model, "quantity": quantity, "answers": answers, "layer": layer}
            yield {**key, **interval_of(mean._asdict())}


def _strata(
    right: NDArray[np.bool_], names: NDArray[np.str_]
) -> tuple[list[NDArray[np.bool_]], list[float]]:
    """Items of each stratum with right and with wrong answers, and its weight.

    All items are one stratum where none has both.
    """
    cells = [names == name for name in np.unique(names).tolist()]
    both = [cell for cell in cells if right[cell].any() and not right[cell].all()]
    if not both:
        return [np.ones(right.size, dtype=bool)], [1.0]
    return both, [
        van_elteren_weight(int(right[cell].sum()), int((~right[cell]).sum())) for cell in both
    ]


def draw_right_and_wrong(ax: Axes, marks: pl.DataFrame) -> None:
    """Draw the marks of one model and quantity."""
    for answers, look in _LOOKS.items():
        rows = marks.filter(answers=answers)
        if len(rows):
            marks_ribbon(ax, rows, "layer", **look)


def right_and_wrong_keys() -> list[Artist]:
    """The key to `draw_right_and_wrong`."""
    right = line_key("right answers", RIGHT, marker="o")
    wrong = line_key(
        "wrong answers, 95% interval", WRONG, linestyle=_LOOKS["wrong"]["linestyle"], marker="o",
        markerfacecolor="white",
    )  # fmt: skip
    return [right, wrong]


def counts_note(marks: pl.DataFrame) -> str:
    """Numbers of right and wrong answers, and of their images, that marks are of."""
    parts = []
    for answers in _LOOKS:
        rows = marks.filter(answers=answers)
        n, images = rows.select(pl.col("n", "images").max().fill_null(0)).row(0)
        parts.append(counted(n, images, answers))
    return "\n".join(parts)

"""Contribution of attention and of the MLPs to the answer, by layer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.layer_values import by_layer
from vrp.plots.marks import INTERVAL, TEXT, WHOLE, of_model, table_of_marks
from vrp.plots.panels import (
    NO_VALUES,
    absence,
    add_key,
    area_key,
    counted,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.style import ATTENTION, INK, MLP
from vrp.stats.clusters import clustered_ratio, numbered
from vrp.study.results import StudyResults
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS

ORDER = 80
TITLE = "Attention or MLP: contribution of each layer to the answer's lead"
CAPTION = (
    "Share of the growth of the logit difference between the answer and its runner-up, from the "
    "embedding to the last layer; all bars of a model sum to 100%. Shares are ratios of sums over "
    "items, with 95% intervals clustered by image. A bar below zero works against the answer that "
    "was given."
)
_PARTS = (("attention", ATTENTION, None), ("MLP", MLP, "////"))
_CONTRIBUTIONS = ("attention_contribution", "mlp_contribution")
_LENS = LENS.only(*_CONTRIBUTIONS)
_ITEMS = ITEMS.only("group")
TABLES = (_LENS, _ITEMS)

_BAR = 0.4  # layers
_COLUMNS = {"model": TEXT, "part": TEXT, "layer": WHOLE, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return attention's and the MLPs' share of the margin's growth, %, by layer and in all.

    The rows without a layer are of all layers.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models:
        lens = model.table(_LENS).join(study.table(_ITEMS), on="item_id").sort("item_id")
        if not absence(lens, *_CONTRIBUTIONS):
            rows += [{"model": model.name, **mark} for mark in _shares(lens)]
    return table_of_marks(rows, _COLUMNS)


def _shares(lens: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Ratios of sums over items, with intervals clustered by image."""
    parts = np.stack([by_layer(lens[name]) for name in _CONTRIBUTIONS])
    finite = np.isfinite(parts).all(axis=(0, 2))
    parts, (images, n_images) = parts[:, finite], numbered(lens["group"].to_numpy()[finite])
    growth = parts.sum(axis=(0, 2))
    for (part, *_), values in zip(_PARTS, parts, strict=True):
        columns = [(None, values.sum(axis=1)), *enumerate(values.T)]
        for layer, column in columns:
            ratio = clustered_ratio(100 * column, growth, images, n_images=n_images)
            found = ratio.estimate("clustered-t")
            counts = {"n": found.n, "images": found.n_groups}
            ends = dict(zip(INTERVAL, found[:3], strict=False))
            yield {"part": part, "layer": layer, **ends, **counts}


def draw(study: StudyResults) -> Figure:
    """Draw the shares as bars, two a layer."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, y_labels=["share of the growth, %"]
    )
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax, absence(model.table(_LENS), *_CONTRIBUTIONS) or NO_VALUES)
            continue
        _draw_bars(ax, own.drop_nulls("layer"))
        whole = own.filter(pl.col("layer").is_null()).drop_nulls("value")
        words = (f"{row['part']} {row['value']:.0f}%" for row in whole.iter_rows(named=True))
        counts = counted(own["n"][0], own["images"][0])
        note(ax, f"in all: {', '.join(words)}; {counts}")
    add_key(figure, [area_key(part, colour, hatch=hatch) for part, colour, hatch in _PARTS])
    return figure


def _draw_bars(ax: Axes, marks: pl.DataFrame) -> None:
    for shift, (part, colour, hatch) in zip((-_BAR / 2, _BAR / 2), _PARTS, strict=True):
        rows = marks.filter(part=part)
        places = rows["layer"].to_numpy() + shift
        ax.bar(
            places, rows["value"].to_numpy(), _BAR, color=colour, hatch=hatch, edgecolor="white",
            linewidth=0,
        )  # fmt: skip
        low, high = (rows[end].cast(pl.Float64).to_numpy() for end in ("low", "high"))
        ax.vlines(places, low, high, color=INK, linewidth=0.8)
    zero_line(ax)
    layer_axis(ax, int(marks["layer"].to_numpy().max()) + 1)
    ax.grid(visible=False, axis="x")

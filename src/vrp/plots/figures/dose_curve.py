"""Accuracy by share of hidden image tokens."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.layer_values import clustered_means
from vrp.plots.panels import (
    add_key,
    line_key,
    model_panels,
    not_run,
    note,
    ribbon,
    zero_line,
)
from vrp.plots.style import BLACK
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.interventions import MASK

ORDER = 140
TITLE = "How accuracy falls as more image tokens are hidden"
CAPTION = (
    "Accuracy over the same items at every share, with 95% image-clustered intervals; the dashed "
    "line is a blank image, below which more than information is lost. If attention marked what "
    "the answer needs, hiding the most attended tokens would cost more at every share."
)
_MASK = MASK.only("share", "correct")
TABLES = (_MASK, *ANSWERED)

_KINDS = (("top", "most attended hidden"), ("random", "as many at random"))


def draw(study: StudyResults) -> Figure:
    """Draw accuracy against the masked share, most attended against random tokens."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, share_x="all", y_labels=["accuracy"]
    )
    for model, (ax,) in columns:
        runs = _dose_runs(study, model)
        if runs.is_empty():
            not_run(ax)
            continue
        _draw_curves(ax, runs)
        note(ax, f"{runs['item_id'].n_unique():,} items")
        ax.set_xlim(-3, 100)
        ax.set_xlabel("image tokens hidden, %")
    keys = [line_key(label, CONDITION_COLOURS[kind]) for kind, label in _KINDS]
    add_key(figure, [*keys, line_key("blank image", BLACK, linestyle="--", linewidth=1)])
    return figure


def _dose_runs(study: StudyResults, model: ModelResults) -> pl.DataFrame:
    """Accuracy of each item, kind and share (mean over seeds), of items that had every share."""
    mask = model.table(_MASK)
    kinds = {
        name: condition.kind
        for name in mask["condition"].unique()
        if not (condition := study.conditions.named("mask", name)).variant
    }
    mask = mask.filter(pl.col("condition").is_in(list(kinds))).with_columns(
        kind=pl.col("condition").replace_strict(kinds, return_dtype=pl.String),
        share=pl.col("share").round(4),
    )
    runs = answered_rows(study, model, mask)
    each = runs.group_by("item_id", "group", "answered_right", "kind", "share").agg(
        accuracy=pl.col("correct").cast(pl.Float64).mean()
    )
    # Shares are compared over the same items: those that were run at every share.
    top = each.filter(pl.col("kind") == "top")
    counts = top.group_by("item_id").len()
    complete = counts.filter(pl.col("len") == top["share"].n_unique())["item_id"]
    return each.filter(pl.col("item_id").is_in(complete.to_list())).sort("item_id", "share")


def _draw_curves(ax: Axes, runs: pl.DataFrame) -> None:
    items = runs.unique("item_id", maintain_order=True)
    whole = items.select(pl.col("answered_right").cast(pl.Float64), "group")
    for kind, _ in reversed(_KINDS):
        parts = [(0.0, whole)]
        mine = runs.filter(pl.col("kind") == kind).select("share", "accuracy", "group")
        for (share,), part in mine.partition_by("share", as_dict=True).items():
            parts.append((100 * float(share), part.select("accuracy", "group")))
        if len(parts) > 1:
            _draw_curve(ax, sorted(parts, key=lambda part: part[0]), CONDITION_COLOURS[kind])
    blank = runs.filter(pl.col("kind") == "no_image")
    if len(blank):
        zero_line(ax, at=float(blank["accuracy"].to_numpy().mean()), color=BLACK, linestyle="--")


def _draw_curve(ax: Axes, parts: list[tuple[float, pl.DataFrame]], colour: str) -> None:
    shares = [share for share, _ in parts]
    found = [
        clustered_means(part.to_series(0).to_numpy()[:, None], part["group"].to_numpy())
        for _, part in parts
    ]
    mean, low, high = (np.concatenate(ends) for ends in zip(*found, strict=True))
    ribbon(ax, shares, mean, low, high, colour=colour)

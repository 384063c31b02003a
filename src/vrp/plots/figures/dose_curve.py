"""Accuracy by share of hidden image tokens."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.layer_values import mean_intervals
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.style import BLACK
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.interventions import MASK

ORDER = 140
TITLE = "How accuracy falls as more image tokens are hidden"
CAPTION = (
    "Accuracy over the same items at every share, with 95% intervals clustered by image; the "
    "dotted line is a blank image. Crosses mark intervals below that line, where hiding tokens "
    "disturbs the model and does more than remove information. If attention marked what the answer "
    "needs, hiding the most attended tokens would cost more at every share."
)
_MASK = MASK.only("share", "correct")
TABLES = (_MASK, *ANSWERED)

_KINDS = (("top", "most attended hidden", "-"), ("random", "as many at random", "--"))
_BLANK = "no_image"
_COLUMNS = {
    "model": TEXT, "hidden": TEXT, "share": NUMBER, **INTERVAL, "disturbs": pl.Boolean(),
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """Return accuracy by share of hidden tokens, %, of each kind, and with a blank image.

    Hiding `disturbs` where the whole interval lies below the accuracy with a blank image; that is
    null where there is no such run.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models:
        runs = _dose_runs(study, model)
        if len(runs):
            rows += [{"model": model.name, **mark} for mark in _curves(runs)]
    return table_of_marks(rows, _COLUMNS)


def _curves(runs: pl.DataFrame) -> Iterator[dict[str, Any]]:
    items = runs.unique("item_id", maintain_order=True)
    whole = items.select(pl.col("answered_right").cast(pl.Float64).alias("accuracy"), "group")
    blank = [_accuracy(part) for part in [runs.filter(kind=_BLANK)] if len(part)]
    for kind, *_ in _KINDS:
        own = runs.filter(kind=kind)
        shares = own["share"].unique().sort().to_list()
        parts = [(0.0, whole), *((share, own.filter(share=share)) for share in shares)]
        for share, part in parts if shares else ():
            found = _accuracy(part)
            # Where no answer is right, nothing varies, and there is no interval.
            highest = found["value"] if math.isnan(found["high"]) else found["high"]
            disturbs = highest < blank[0]["value"] if blank else None
            yield {"hidden": kind, "share": 100 * share, **found, "disturbs": disturbs}
    for found in blank:
        yield {"hidden": _BLANK, "share": 100.0, **found}


def _accuracy(part: pl.DataFrame) -> dict[str, Any]:
    (found,) = mean_intervals(part["accuracy"].to_numpy()[:, None], part["group"].to_numpy())
    return found


def draw(study: StudyResults) -> Figure:
    """Draw accuracy against the masked share, most attended against random tokens."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, share_x="all", y_labels=["accuracy"]
    )
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
            continue
        _draw_curves(ax, own)
        note(ax, counts_of(own))
        ax.set_xlim(-3, 100)
        ax.set_xlabel("image tokens hidden, %")
    keys = [
        line_key(label, CONDITION_COLOURS[kind], linestyle=style) for kind, label, style in _KINDS
    ]
    keys.append(line_key("blank image", BLACK, linestyle=":"))
    if marks["disturbs"].any():
        keys.append(dot_key("below a blank image", BLACK, marker="x"))
    add_key(figure, keys)
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
        share=pl.col("share").cast(pl.Float64).round(4),
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


def _draw_curves(ax: Axes, marks: pl.DataFrame) -> None:
    for kind, _, style in reversed(_KINDS):
        rows = marks.filter(hidden=kind)
        if len(rows):
            marks_ribbon(ax, rows, "share", colour=CONDITION_COLOURS[kind], linestyle=style)
    worse = marks.filter("disturbs")
    ax.plot(worse["share"], worse["value"], linestyle="none", marker="x", color=BLACK, zorder=4)
    for row in marks.filter(hidden=_BLANK).iter_rows(named=True):
        zero_line(ax, at=row["value"], color=BLACK, linestyle=":")
        if row["low"] is not None:
            ax.axhspan(row["low"], row["high"], color=BLACK, alpha=0.08, linewidth=0, zorder=0.5)

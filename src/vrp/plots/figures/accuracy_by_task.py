"""Accuracy by task, with parse rate and yes-rate."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.data.datasets import tasks_in_order
from vrp.data.item import EXISTENCE
from vrp.plots.marks import INTERVAL, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.named_rows import rows_of
from vrp.plots.panels import (
    add_key,
    counted,
    dot_key,
    interval_dot,
    line_key,
    name_panel,
    not_run,
    note,
    panel_row,
    set_rows,
    shortened,
)
from vrp.plots.style import DARK_GREY, model_colour, model_marker, size_in_force
from vrp.study.results import StudyResults
from vrp.tables.estimates import METRICS
from vrp.tables.items import DISTINGUISHED_BY, ITEMS, asked_items

ORDER = 10
TITLE = "How often each model is right, and how it answers"
CAPTION = (
    "Dots are shares of items with 95% intervals clustered by image. A low parse rate, a yes-rate "
    "far from the share of questions whose answer is yes (dotted), or an accuracy that depends on "
    "the given answer would mean that accuracy measures the form of the answer rather than what "
    "the model saw."
)
_ITEMS = ITEMS.only("group", "reference", *DISTINGUISHED_BY)
TABLES = (_ITEMS, METRICS)

_ACCURACY, _PARSED, _EXISTENCE = "accuracy", "answers that could be parsed", "existence questions"
_TRUTH = "questions whose answer is yes"
_SAYS_YES = "model says yes"
_EXISTENCE_ROWS = (
    ("yes_rate", "existence", _SAYS_YES),
    ("accuracy", "answer_yes", "right when the model says yes"),
    ("accuracy", "answer_no", "right when the model says no"),
)
_NAMES = 0.39  # of the width, for the names of all panels that stand side by side
_SPREAD = 0.5  # of the distance between two rows, over which models are spread
_COLUMNS = {"model": TEXT, "quantity": TEXT, "row": TEXT, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return accuracy and parse rate by task, and the answers to existence questions.

    The row without a model is the share of existence questions whose reference is yes.
    """
    items = asked_items(study.table(_ITEMS))
    tasks = [*((task, task) for task in tasks_in_order(items["task"], items["dataset"])),
             ("pooled", "all items")]  # fmt: skip
    wanted = [
        *((_ACCURACY, "accuracy", scope, row) for scope, row in tasks),
        *((_PARSED, "parse_rate", scope, row) for scope, row in tasks),
        *((_EXISTENCE, *row) for row in _EXISTENCE_ROWS),
    ]
    rows = []
    for model in study.models:
        shares = model.table(METRICS).filter(predictor="model")
        for quantity, metric, scope, row in wanted:
            for found in shares.filter(metric=metric, scope=scope).iter_rows(named=True):
                key = {"model": model.name, "quantity": quantity, "row": row}
                rows.append({**key, **interval_of(found)})
    asked = items.filter(pl.col("reference").is_not_null(), task=EXISTENCE)
    if len(asked) and study.models:
        truth = {"quantity": _EXISTENCE, "row": _TRUTH, "n": len(asked)}
        share = float((asked["reference"] == "yes").to_numpy().mean())
        rows.append({**truth, "value": share, "images": asked["group"].n_unique()})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw accuracy, parse rate and the existence answers, models side by side."""
    marks = data(study)
    figure, axes = panel_row(TITLE, height=2.9, n=3)
    names = [model.name for model in study.models]
    for ax, quantity in zip(axes, (_ACCURACY, _PARSED, _EXISTENCE), strict=True):
        name_panel(ax, quantity)
        _draw_shares(ax, marks.filter(pl.col("model").is_not_null(), quantity=quantity), names)
    keys = [
        dot_key(shortened(name), model_colour(i), marker=model_marker(i))
        for i, name in enumerate(names)
    ]
    for share in marks.filter(row=_TRUTH)["value"]:
        axes[-1].vlines(share, -0.4, 0.4, color=DARK_GREY, linestyle=":")
        keys.append(line_key(_TRUTH, DARK_GREY, linestyle=":"))
    add_key(figure, keys)
    return figure


def _draw_shares(ax: Axes, marks: pl.DataFrame, models: list[str]) -> None:
    """One row of dots for each row of marks, models below each other within it."""
    rows = marks["row"].unique(maintain_order=True).to_list()
    if not rows:
        not_run(ax)
        return
    places = rows_of(rows, share=_NAMES / size_in_force().side_by_side)
    for index, model in enumerate(models):
        offset = _SPREAD * ((index + 0.5) / len(models) - 0.5)
        for row in of_model(marks, model).iter_rows(named=True):
            place = places.places[rows.index(row["row"])] + offset
            interval_dot(
                ax, place, row["value"], row["low"], row["high"],
                colour=model_colour(index), marker=model_marker(index),
            )  # fmt: skip
    largest = marks.sort("n", descending=True, maintain_order=True).row(0, named=True)
    note(ax, counted(largest["n"], largest["images"]))
    set_rows(ax, places)
    ax.tick_params(labelleft=True)
    ax.set_xlim(0, 1.03)
    ax.set_xlabel("share of items")

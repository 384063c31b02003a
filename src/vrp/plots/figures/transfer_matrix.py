"""A probe fitted on one task and evaluated on another."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vrp.plots.marks import INTERVAL, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    area_key,
    counts_of,
    is_leftmost,
    model_panels,
    not_run,
    note,
    panel_width,
)
from vrp.plots.style import BLACK, INK
from vrp.probing.labels import TRANSFER
from vrp.study.results import StudyResults
from vrp.tables.estimates import PROBES

ORDER = 34
TITLE = "Does a probe transfer? Fitted on one task, evaluated on another"
CAPTION = (
    "AUROC within strata of the linear probe fitted on the task of the row and evaluated on the "
    "task of the column, always on images that it was not fitted on; framed: its own task. Values "
    "are in brackets if the 95% interval, clustered by image, contains 0.5. If it lies below 0.5, "
    "the probe ranks the other task's wrong answers above the right ones."
)
TABLES = (PROBES,)

_COLUMNS = {
    "model": TEXT, "fitted_on": TEXT, "evaluated_on": TEXT, **INTERVAL,
    "note": TEXT,
}  # fmt: skip
_COLOURS = "RdBu"
_MOST_NUMBERED = 6  # tasks up to which there is room for numbers in the cells
_CELL = 0.4  # inches
_ROOM = 0.6  # inches of width from which on the name of a task fits above its column


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model and pair of splits, as the transfer matrix has them."""
    return table_of_marks(
        (
            {
                "model": model.name, "fitted_on": row["predictor"].removeprefix(TRANSFER),
                "evaluated_on": row["scope"], **interval_of(row), "note": row["note"],
            }
            for model in study.models
            for row in model.table(PROBES)
            .filter(metric="transfer_auroc")
            .sort("predictor", "scope")
            .iter_rows(named=True)
        ),
        _COLUMNS,
    )  # fmt: skip


def draw(study: StudyResults) -> Figure:
    """Draw a matrix a model."""
    shown = data(study)
    splits = sorted({*shown["fitted_on"], *shown["evaluated_on"]})
    height = _CELL * max(len(splits), 3) + 1.2
    figure, columns = model_panels(
        study, TITLE, heights=[height], share_x="none", y_labels=["fitted on"]
    )
    room = panel_width(len(study.models)) / max(len(splits), 1)
    for model, (ax,) in columns:
        rows = of_model(shown, model.name)
        if rows.is_empty():
            not_run(ax)
            continue
        _draw_matrix(ax, rows, splits, turned=room < _ROOM)
        note(ax, f"up to {counts_of(rows)}")
    keys = [
        area_key("AUROC above 0.5", "#4393c3"), area_key("below", "#d6604d"),
    ]  # fmt: skip
    add_key(figure, keys if len(shown) else [])
    return figure


def _draw_matrix(ax: Axes, rows: pl.DataFrame, splits: list[str], *, turned: bool) -> None:
    place = {split: i for i, split in enumerate(splits)}
    areas = np.full((len(splits), len(splits)), np.nan)
    for row in rows.drop_nulls("value").iter_rows(named=True):
        at = place[row["fitted_on"]], place[row["evaluated_on"]]
        areas[at] = row["value"]
        if len(splits) <= _MOST_NUMBERED:
            _number_cell(ax, at, row)
    ax.imshow(areas, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for i in range(len(splits)):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=BLACK))
    names = [split.rpartition("/")[2] for split in splits]
    names = names if len({*names}) == len(splits) else splits
    ax.set_xticks(range(len(splits)), names, rotation=90 if turned else 0)
    ax.set_yticks(range(len(splits)), names if is_leftmost(ax) else [])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set_xlabel("evaluated on")


def _number_cell(ax: Axes, at: tuple[int, int], row: dict[str, float]) -> None:
    text = f"{row['value']:.2f}".removeprefix("0")
    unsure = row["low"] is None or row["low"] <= 0.5 <= row["high"]
    dark = abs(row["value"] - 0.5) > 0.3
    ax.text(
        at[1], at[0], f"({text})" if unsure else text, ha="center", va="center",
        color="white" if dark else INK,
    )  # fmt: skip

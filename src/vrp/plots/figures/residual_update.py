"""Norm of each layer's update of the image tokens."""

from typing import Any

import polars as pl
from matplotlib.figure import Figure

from vrp.plots.layer_values import (
    BY_ANSWER,
    by_layer,
    counts_note,
    draw_right_and_wrong,
    right_and_wrong,
    right_and_wrong_keys,
)
from vrp.plots.marks import of_model, table_of_marks
from vrp.plots.panels import (
    absence,
    add_key,
    area_key,
    from_zero,
    layer_axis,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import FAINT
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.signals.mechanistic import first_late_layer
from vrp.study.results import StudyResults
from vrp.tables.lens import LENS

ORDER = 90
TITLE = "How much each layer changes the image tokens"
CAPTION = (
    "Norm of each layer's change to the residual stream, mean over image tokens, then over strata, "
    "weighted alike for right and for wrong answers, with 95% intervals clustered by image. A rise "
    "in the shaded last quarter is called late-stage forcing."
)
_LENS = LENS.only("residual_update")
TABLES = (_LENS, *ANSWERED)

_QUANTITY = "norm of the change"


def data(study: StudyResults) -> pl.DataFrame:
    """Return the residual update by layer, of right answers and of wrong ones."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        frame = answered_rows(study, model, model.table(_LENS))
        if not absence(frame, "residual_update"):
            updates = by_layer(frame["residual_update"])
            rows += right_and_wrong(model.name, _QUANTITY, updates, frame)
    return table_of_marks(rows, BY_ANSWER)


def draw(study: StudyResults) -> Figure:
    """Draw the residual update by layer, right answers against wrong ones."""
    marks = data(study)
    figure, columns = model_panels(study, TITLE, heights=[2.8], y_labels=[_QUANTITY])
    for model, (ax,) in columns:
        frame = answered_rows(study, model, model.table(_LENS))
        if reason := absence(frame, "residual_update"):
            not_run(ax, reason)
            continue
        own = of_model(marks, model.name)
        draw_right_and_wrong(ax, own)
        n_layers = int(own["layer"].to_numpy().max()) + 1
        first = first_late_layer(n_layers) - 0.5
        ax.axvspan(first, n_layers - 0.5, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        ax.set_xlim(-0.5, n_layers - 0.5)
        from_zero([ax])
        note(ax, counts_note(own))
        layer_axis(ax, n_layers)
    add_key(figure, [*right_and_wrong_keys(), area_key("last quarter of layers", FAINT)])
    return figure

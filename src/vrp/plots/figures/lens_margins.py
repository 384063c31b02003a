"""Truth and decision margin of the logit lens, by layer."""

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
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.study.results import StudyResults
from vrp.tables.lens import LENS

ORDER = 70
TITLE = "How the answer forms, layer by layer (logit lens)"
CAPTION = (
    "Above: truth margin, the logit of the reference answer minus the highest other logit; above "
    "zero the layer would answer correctly (a diagnostic, because it uses the label). Below: "
    "decision margin, the lead of the top answer over its runner-up, which needs no label. Means "
    "over strata, weighted alike for right and for wrong answers, with 95% intervals clustered by "
    "image."
)

_ROWS = (("truth_margin", "truth margin, logits"), ("decision_margin", "decision margin, logits"))
_LENS = LENS.only(*(name for name, _ in _ROWS))
TABLES = (_LENS, *ANSWERED)


def data(study: StudyResults) -> pl.DataFrame:
    """Return truth and decision margin by layer, of right answers and of wrong ones."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        frame = answered_rows(study, model, model.table(_LENS))
        for name, quantity in _ROWS:
            if not absence(frame, name):
                margins = by_layer(frame[name])
                rows += right_and_wrong(model.name, quantity, margins, frame)
    return table_of_marks(rows, BY_ANSWER)


def draw(study: StudyResults) -> Figure:
    """Draw both margins by layer, right answers against wrong ones."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.5, 2.3], y_labels=[quantity for _, quantity in _ROWS]
    )
    for model, column in columns:
        frame = answered_rows(study, model, model.table(_LENS))
        for ax, (name, quantity) in zip(column, _ROWS, strict=True):
            if reason := absence(frame, name):
                not_run(ax, reason)
                continue
            own = of_model(marks, model.name).filter(quantity=quantity)
            draw_right_and_wrong(ax, own)
            zero_line(ax)
            layer_axis(ax, int(own["layer"].to_numpy().max()) + 1, label=ax is column[-1])
            note(ax, counts_note(own))
    add_key(figure, right_and_wrong_keys())
    return figure

"""Where the picture enters the answer, and from which layer on its state suffices."""

import polars as pl
from matplotlib.figure import Figure

from vrp.interventions.tracing import KNOCKOUT_IMAGE, KNOCKOUT_TEXT, PATCH
from vrp.plots.marks import INTERVAL, TEXT, WHOLE, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    layer_axis,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.style import BLUE, GREY, ORANGE, VERMILLION
from vrp.study.results import StudyResults
from vrp.tables.trace import TRACE_EFFECTS

ORDER = 145
TITLE = "Where the image enters the answer, by layer"
CAPTION = (
    "Share of the image's contribution to the margin of the first answer token, relative to a "
    "blank image, with 95% intervals clustered by image. Above: the share that remains if the "
    "prompt's last token cannot attend to the image, or to the question, in a window of layers "
    "that begins at the layer shown. Below: the share that this token's state after a layer "
    "restores in a run with a blank image."
)
TABLES = (TRACE_EFFECTS,)

_CURVES = (
    (KNOCKOUT_IMAGE, VERMILLION, "-", "no attention to the image"),
    (KNOCKOUT_TEXT, ORANGE, "--", "no attention to the question"),
    (PATCH, BLUE, "-.", "the last token's state put into the blank run"),
)
_COLUMNS = {"model": TEXT, "kind": TEXT, "layer": WHOLE, "last_layer": WHOLE, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return the shares left under knockouts, and those that patches restore, by layer."""
    rows = []
    for model in study.models:
        table = study.table(TRACE_EFFECTS).filter(model=model.name)
        for kind, *_ in _CURVES:
            for row in table.filter(kind=kind).sort("layer").iter_rows(named=True):
                key = {name: row[name] for name in ("model", "kind", "layer", "last_layer")}
                rows.append({**key, **interval_of(row, value="share")})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw the shares by layer: knockouts above, patches below."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.5, 2.3], y_labels=["share left", "share restored"]
    )
    for model, (above, below) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(above)
            not_run(below)
            continue
        n_layers = int(own["last_layer"].to_numpy().max()) + 1
        for kind, colour, style, _ in _CURVES:
            rows = own.filter(kind=kind)
            if len(rows):
                marks_ribbon(
                    below if kind == PATCH else above, rows, "layer", colour=colour, linestyle=style
                )
        note(above, _words(own))
        for ax in (above, below):
            zero_line(ax)
            zero_line(ax, at=1.0, color=GREY, linestyle=":")
            layer_axis(ax, n_layers, label=ax is below)
    keys = [line_key(label, colour, linestyle=style) for _, colour, style, label in _CURVES]
    add_key(figure, keys if len(marks) else [])
    return figure


def _words(marks: pl.DataFrame) -> str:
    counts = counts_of(marks, "questions")
    windows = marks.filter(kind=KNOCKOUT_IMAGE)
    if windows.is_empty():
        return counts
    length = int((windows["last_layer"] - windows["layer"]).to_numpy().max()) + 1
    return f"windows of {length} layer{'s' if length > 1 else ''}; {counts}"

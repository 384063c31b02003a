"""Where the picture enters the answer, and from which layer on its state suffices."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.interventions.tracing import KNOCKOUT_IMAGE, KNOCKOUT_TEXT, PATCH
from vrp.plots.panels import (
    add_key,
    layer_axis,
    line_key,
    model_panels,
    not_run,
    note,
    ribbon,
    zero_line,
)
from vrp.plots.style import BLUE, GREY, ORANGE, VERMILLION
from vrp.study.results import StudyResults
from vrp.tables.trace import TRACE_EFFECTS

ORDER = 145
TITLE = "Where the picture enters the answer, by layer"
CAPTION = (
    "Share of what the image adds to the first answer token's margin, over a blank image; 95% "
    "image-clustered intervals. Above: what is left where the prompt's last token may not attend "
    "to the image, or to the question, in a window of layers that begins at the layer shown. "
    "Below: what that token's state after a layer restores in a run with a blank image."
)
TABLES = (TRACE_EFFECTS,)

_KNOCKOUTS = ((KNOCKOUT_IMAGE, VERMILLION, "no attention to the image"),
              (KNOCKOUT_TEXT, ORANGE, "no attention to the question"))  # fmt: skip


def draw(study: StudyResults) -> Figure:
    """Draw the shares under knockouts, and those that patches restore, by layer."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.5, 2.3], share_y=False, key_lines=1,
        y_labels=["share left", "share restored"],
    )  # fmt: skip
    table = study.table(TRACE_EFFECTS)
    for model, (above, below) in columns:
        rows = table.filter(model=model.name).sort("layer")
        if rows.is_empty():
            not_run(above)
            not_run(below)
            continue
        n_layers = int(rows["last_layer"].to_numpy().max()) + 1
        for kind, colour, _ in _KNOCKOUTS:
            _line(above, rows.filter(kind=kind), colour)
        _line(below, rows.filter(kind=PATCH), BLUE)
        windows = rows.filter(kind=KNOCKOUT_IMAGE)
        length = int((windows["last_layer"] - windows["layer"]).to_numpy().max()) + 1
        note(above, f"windows of {length} layer{'s' if length > 1 else ''}")
        note(below, f"{rows['n'].to_numpy().max():,} questions")
        for ax, last in ((above, False), (below, True)):
            zero_line(ax)
            zero_line(ax, at=1.0, color=GREY, linestyle=":")
            layer_axis(ax, n_layers, label=last)
    keys = [line_key(label, colour) for _, colour, label in _KNOCKOUTS]
    keys.append(line_key("the last token's state put into the blank run", BLUE))
    add_key(figure, [] if table.is_empty() else keys)
    return figure


def _line(ax: Axes, rows: pl.DataFrame, colour: str) -> None:
    if len(rows):
        ribbon(
            ax, rows["layer"].to_numpy(), rows["share"].to_numpy(), rows["low"].to_numpy(),
            rows["high"].to_numpy(), colour=colour,
        )  # fmt: skip

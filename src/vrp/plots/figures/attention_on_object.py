"""Attention on the object that a question asks for, by layer."""

import polars as pl
from matplotlib.figure import Figure

from vrp.plots.panels import (
    add_key,
    from_zero,
    layer_axis,
    line_key,
    model_panels,
    not_run,
    note,
    ribbon,
    zero_line,
)
from vrp.plots.style import BLUE, GREY
from vrp.signals.registry import ON_OBJECT
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, OBJECT_AREA, OBJECT_EXCESS

ORDER = 45
TITLE = "Whether attention lies on the object that the question asks for, by layer"
CAPTION = (
    "Share of the attention to the image in the annotated boxes of the object that an existence "
    "question asks for and the image has, mean over items with 95% image-clustered intervals. The "
    "dashed line is the boxes' share of the image: what evenly spread attention would give."
)
TABLES = (METRICS,)


def draw(study: StudyResults) -> Figure:
    """Draw the share of attention in the object's boxes by layer, and their share of the area."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.8], share_y=True, y_labels=["share of attention"]
    )
    drawn = []
    for model, (ax,) in columns:
        area, rows = _rows(model)
        if rows.is_empty():
            not_run(ax)
            continue
        layers = rows["layer"].to_numpy()
        ends = (rows[name].to_numpy() + area["value"] for name in ("value", "low", "high"))
        ribbon(ax, layers, *ends, colour=BLUE)
        zero_line(ax, at=area["value"], color=GREY, linestyle="--")
        note(ax, f"{area['n']:,} questions, {area['n_groups']:,} images")
        layer_axis(ax, len(layers))
        drawn.append(ax)
    from_zero(drawn)
    keys = [
        line_key("attention in the object's boxes", BLUE),
        line_key("area of the boxes", GREY, linestyle="--"),
    ]
    add_key(figure, keys if drawn else [])
    return figure


def _rows(model: ModelResults) -> tuple[dict[str, float], pl.DataFrame]:
    """The boxes' area, and attention minus area of each layer; no row where boxes are not known."""
    found = model.table(METRICS).filter(predictor=ON_OBJECT)
    area = found.filter(metric=OBJECT_AREA)
    by_layer = found.filter(pl.col("layer") >= 0, metric=OBJECT_EXCESS).sort("layer")
    return (area.row(0, named=True) if len(area) else {}), by_layer

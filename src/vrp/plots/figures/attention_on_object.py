"""Attention on the object that a question asks for, by layer."""

import polars as pl
from matplotlib.figure import Figure

from vrp.plots.marks import INTERVAL, TEXT, WHOLE, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counted,
    from_zero,
    layer_axis,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.style import BLUE, GREY
from vrp.signals.registry import ON_OBJECT
from vrp.study.results import StudyResults
from vrp.tables.estimates import METRICS, OBJECT_AREA, OBJECT_EXCESS

ORDER = 45
TITLE = "Is attention on the object that the question asks for? By layer"
CAPTION = (
    "Share of the attention to the image that falls inside the annotated boxes of the object, for "
    "existence questions whose object is in the image; mean over items with 95% intervals "
    "clustered by image. The dashed line is the boxes' share of the image, which uniform attention "
    "would give."
)
TABLES = (METRICS,)


_ON_OBJECT, _AREA = "attention in the object's boxes", "area of the boxes"
_COLUMNS = {"model": TEXT, "quantity": TEXT, "layer": WHOLE, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return the share of attention in the object's boxes by layer, and their share of the area."""
    rows = []
    for model in study.models:
        found = model.table(METRICS).filter(predictor=ON_OBJECT)
        by_layer = found.filter(pl.col("layer") >= 0, metric=OBJECT_EXCESS).sort("layer")
        for area in found.filter(metric=OBJECT_AREA).iter_rows(named=True) if len(by_layer) else ():
            rows.append({"model": model.name, "quantity": _AREA, **interval_of(area)})
            for row in by_layer.iter_rows(named=True):
                mark = interval_of(row)
                mark |= {end: mark[end] + area["value"] for end in ("value", "low", "high")}
                key = {"model": model.name, "quantity": _ON_OBJECT, "layer": row["layer"]}
                rows.append({**key, **mark})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw both by layer."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.8], share_y=True, y_labels=["share of attention"]
    )
    drawn = []
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
            continue
        rows = own.filter(quantity=_ON_OBJECT)
        area = own.filter(quantity=_AREA).row(0, named=True)
        marks_ribbon(ax, rows, "layer", colour=BLUE)
        zero_line(ax, at=area["value"], color=GREY, linestyle="--")
        note(ax, counted(area["n"], area["images"], "questions"))
        layer_axis(ax, len(rows))
        drawn.append(ax)
    from_zero(drawn)
    keys = [line_key(f"{_ON_OBJECT}, 95% interval", BLUE), line_key(_AREA, GREY, linestyle="--")]
    add_key(figure, keys if drawn else [])
    return figure

"""AUROC of the probe of each layer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.estimates.predictors import is_blind, is_permuted, predictor_label
from vrp.plots.marks import INTERVAL, TEXT, WHOLE, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    chance_key,
    counts_of,
    dot_key,
    interval_dot,
    layer_axis,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from vrp.probing.labels import LINEAR, LINEAR_BEST
from vrp.study.results import StudyResults
from vrp.tables.estimates import PROBES, WITHIN_STRATA

ORDER = 30
TITLE = "At which layer hidden states tell right answers from wrong ones"
CAPTION = (
    "AUROC within strata (held-out images) of a probe on the residual stream of each decoder "
    "layer, with 95% intervals clustered by image. To the right: the AUROC when the layer is "
    "chosen inside the training folds; the same probe with a blank image, which shows what does "
    "not come from the image; and with permuted labels, which must be at chance."
)
TABLES = (PROBES,)

_MORE_COLOURS = (GREEN, PURPLE, SKY)
_DASHES = ("-", "--", "-.", ":")
_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT, "stratum": TEXT, "layer": WHOLE, **INTERVAL,
    "note": TEXT,
}  # fmt: skip


class _Beside(NamedTuple):
    """A probe with one value, which stands right of the layers."""

    applies: Callable[[str], bool]
    label: str
    colour: str
    marker: str


_BESIDE = (
    _Beside(lambda name: name == LINEAR_BEST, "layer picked in training folds", BLUE, "s"),
    _Beside(is_blind, "same, blank image", ORANGE, "^"),
    _Beside(is_permuted, "same, permuted labels", GREY, "D"),
)


def data(study: StudyResults) -> pl.DataFrame:
    """Return AUROC within strata by layer of each probe that has several, and of the guards."""
    rows = []
    for model in study.models:
        table = model.table(PROBES).filter(metric="auroc", scope=WITHIN_STRATA)
        layered = table.filter(pl.len().over("predictor") > 1)["predictor"].unique().to_list()
        for row in table.sort("predictor", "layer").iter_rows(named=True):
            name, layer = row["predictor"], row["layer"]
            beside = layer < 0 and any(kind.applies(name) for kind in _BESIDE)
            if name in layered or (beside and layered):
                key = {"model": model.name, "predictor": name, "label": predictor_label(name)}
                of_layer = {"stratum": WITHIN_STRATA, "layer": layer if layer >= 0 else None}
                rows.append({**key, **of_layer, **interval_of(row), "note": row["note"]})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw a line for every predictor that has several layers, and the guards beside them."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[3.0], share_y=True, y_labels=["AUROC within strata"]
    )
    lines = marks.drop_nulls("layer")
    names = sorted(set(lines["predictor"]), key=lambda name: (name != LINEAR, name))
    looks: dict[str, dict[str, Any]] = {
        name: {"colour": colour, "linestyle": dashes}
        for name, colour, dashes in zip(
            names, [BLUE, *_MORE_COLOURS * len(names)], _DASHES * len(names), strict=False
        )
    }
    for model, (ax,) in columns:
        own = of_model(lines, model.name)
        if own.is_empty():
            not_run(ax)
            continue
        reference_band(ax, *study.margins.chance)
        zero_line(ax, at=0.5)
        for name in names:
            rows = own.filter(predictor=name)
            if len(rows):
                marks_ribbon(ax, rows, "layer", **looks[name])
        n_layers = int(own["layer"].to_numpy().max()) + 1
        _draw_beside(ax, of_model(marks, model.name), n_layers)
        note(ax, _words(own))
        layer_axis(ax, n_layers)
    keys = [
        line_key(f"{predictor_label(name).removesuffix(', best layer')}, each layer",
                 looks[name]["colour"], linestyle=looks[name]["linestyle"])
        for name in names
    ]  # fmt: skip
    beside = [dot_key(one.label, one.colour, marker=one.marker) for one in _BESIDE]
    add_key(figure, [*keys, *beside, chance_key(study.margins)] if names else [])
    return figure


def _draw_beside(ax: Axes, marks: pl.DataFrame, n_layers: int) -> None:
    """Dots right of the last layer for the best-layer probe and its guards."""
    step = max(0.6, 0.05 * n_layers)
    whole = marks.filter(pl.col("layer").is_null()).drop_nulls("value")
    for index, one in enumerate(_BESIDE):
        for row in whole.iter_rows(named=True):
            if one.applies(row["predictor"]):
                interval_dot(
                    ax, n_layers - 1 + (index + 1.2) * step, row["value"], row["low"], row["high"],
                    colour=one.colour, marker=one.marker, horizontal=False,
                )  # fmt: skip
    ax.axvline(n_layers - 1 + 0.6 * step, color=GREY, linewidth=0.8)


def _words(marks: pl.DataFrame) -> str:
    counts = counts_of(marks)
    main = marks.filter(predictor=LINEAR).drop_nulls("value")
    if main.is_empty():
        return counts
    best = main.sort("value", "layer", descending=[True, False]).row(0, named=True)
    return f"linear probe highest at layer {best['layer']}: {best['value']:.2f}; {counts}"

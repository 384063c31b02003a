"""AUROC of the probe of each layer."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.estimates.predictors import is_blind, is_permuted, predictor_label
from vrp.plots.panels import (
    add_key,
    chance_key,
    dot_key,
    interval_dot,
    layer_axis,
    line_key,
    model_panels,
    not_run,
    note,
    reference_band,
    ribbon,
    zero_line,
)
from vrp.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from vrp.probing.labels import LINEAR, LINEAR_BEST
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import PROBES, WITHIN_STRATA

ORDER = 30
TITLE = "At which layer hidden states tell right answers from wrong ones"
CAPTION = (
    "AUROC (mean within task, held-out images) of a probe on each decoder layer's residual stream, "
    "with 95% image-clustered intervals. To the right, what remains when the layer is picked "
    "inside the training folds; the same with a blank image, which shows what was never seen in "
    "the image; and with permuted labels, which must fall to chance."
)
TABLES = (PROBES,)

_MORE_COLOURS = (GREEN, PURPLE, SKY)


def draw(study: StudyResults) -> Figure:
    """Draw a line for every predictor that has several layers, and the guards beside them."""
    figure, columns = model_panels(
        study, TITLE, heights=[3.0], share_y=True, y_labels=["AUROC within strata"]
    )
    rows_of = [_auroc(model) for model in study.models]
    # Predictors with one row a layer are lines, those with a single row stand beside them.
    layered = [rows.filter(pl.len().over("predictor") > 1) for rows in rows_of]
    names = sorted(
        {name for rows in layered for name in rows["predictor"]}, key=lambda n: (n != LINEAR, n)
    )
    colours = dict(zip(names, [BLUE, *_MORE_COLOURS * len(names)], strict=False))
    for (_, (ax,)), rows, lines in zip(columns, rows_of, layered, strict=True):
        if lines.is_empty():
            not_run(ax)
            continue
        reference_band(ax, *study.margins.chance)
        zero_line(ax, at=0.5)
        for name in names:
            _draw_line(ax, lines.filter(pl.col("predictor") == name), colours[name])
        n_layers = int(lines["layer"].to_numpy().max()) + 1
        _draw_beside(ax, rows, n_layers)
        _name_best_layer(ax, lines)
        layer_axis(ax, n_layers)
    keys = [
        line_key(f"{predictor_label(name).removesuffix(', best layer')}, each layer", colours[name])
        for name in names
    ]
    beside = [
        dot_key("layer picked in training folds", BLUE),
        dot_key("same, blank image", ORANGE),
        dot_key("same, permuted labels", GREY),
        chance_key(study.margins),
    ]
    add_key(figure, keys + beside if names else [])
    return figure


def _auroc(model: ModelResults) -> pl.DataFrame:
    rows = model.table(PROBES).filter(metric="auroc", scope=WITHIN_STRATA)
    return rows.sort("predictor", "layer")


def _draw_line(ax: Axes, rows: pl.DataFrame, colour: str) -> None:
    if len(rows):
        ribbon(
            ax, rows["layer"].to_numpy(), rows["value"].to_numpy(), rows["low"].to_numpy(),
            rows["high"].to_numpy(), colour=colour,
        )  # fmt: skip


def _draw_beside(ax: Axes, rows: pl.DataFrame, n_layers: int) -> None:
    """Dots right of the last layer for the best-layer probe and its guards."""
    kinds = (
        (lambda name: name == LINEAR_BEST, BLUE),
        (is_blind, ORANGE),
        (is_permuted, GREY),
    )
    step = max(0.6, 0.05 * n_layers)
    for index, (applies, colour) in enumerate(kinds):
        for row in rows.filter(pl.col("layer") < 0).iter_rows(named=True):
            if applies(row["predictor"]):
                place = n_layers - 1 + (index + 1.2) * step
                interval_dot(
                    ax, place, row["value"], row["low"], row["high"], colour=colour,
                    horizontal=False,
                )  # fmt: skip
    ax.axvline(n_layers - 1 + 0.6 * step, color=GREY, linewidth=0.8)


def _name_best_layer(ax: Axes, rows: pl.DataFrame) -> None:
    main = rows.filter(pl.col("predictor") == LINEAR, pl.col("value").is_finite())
    if len(main):
        best = main.sort("value", "layer", descending=[True, False]).row(0, named=True)
        note(ax, f"linear probe highest at layer {best['layer']}: {best['value']:.2f}")

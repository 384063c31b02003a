"""Where the sparse probe's weight lies: over layers, and over neurons."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vrp.plots.marks import NUMBER, TEXT, WHOLE, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    area_key,
    counts_of,
    from_zero,
    layer_axis,
    line_key,
    model_panels,
    not_run,
    note,
    ribbon,
)
from vrp.plots.style import BLUE
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import NOT_A_LAYER, PROBES, WITHIN_STRATA
from vrp.tables.neurons import NEURONS

ORDER = 36
TITLE = "How many neurons the sparse probe uses, and how its weight is distributed"
CAPTION = (
    "Above: share of a layer's neurons that the sparse (L1) probe keeps. Below: share of its "
    "weight on the largest neurons, by their number, at the layer chosen inside the training "
    "folds. A curve that rises at once is a probe of few neurons; one that rises slowly is "
    "distributed. The band is the range over folds."
)
_NEURONS = NEURONS.only("weight", "best_layer")
TABLES = (_NEURONS, PROBES)

_KEPT, _WEIGHT = "share of neurons kept", "share of weight on the largest"
_COLUMNS = {
    "model": TEXT, "quantity": TEXT, "layer": WHOLE, "neurons": WHOLE,
    "value": NUMBER, "low": NUMBER, "high": NUMBER, "folds": WHOLE,
    "n": WHOLE, "images": WHOLE,
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model and layer, and one a model and number of the largest neurons.

    Value, low and high are the mean over folds and its range; `neurons` is the number that the
    layer has, or of the largest.
    """
    return table_of_marks(
        (
            {"model": model.name, **mark, **_judged_on(model)}
            for model in study.models
            for mark in (*_kept(model), *_spread(model))
        ),
        _COLUMNS,
    )


def _kept(model: ModelResults) -> Iterator[dict[str, Any]]:
    """Share of each layer's neurons that have a weight."""
    by_fold = (
        model.table(_NEURONS)
        .group_by("layer", "fold")
        .agg(neurons=pl.len(), share=(pl.col("weight") != 0).mean())
    )
    for (layer, neurons), folds in by_fold.sort("layer", "fold").partition_by(
        "layer", "neurons", as_dict=True
    ).items():  # fmt: skip
        yield {
            "quantity": _KEPT, "layer": layer, "neurons": neurons,
            **_over_folds(folds["share"].to_numpy()),
        }  # fmt: skip


def _spread(model: ModelResults) -> Iterator[dict[str, Any]]:
    """Share of the weight on the 1, 2, … largest neurons, up to the most that a fold keeps."""
    best = model.table(_NEURONS).filter("best_layer").sort("fold", "neuron")
    sizes = [
        np.sort(np.abs(fold["weight"].to_numpy().astype(np.float64)))[::-1]
        for fold in best.partition_by("fold")
    ]
    shares = [np.cumsum(size) / size.sum() for size in sizes if size.any()]
    n_kept = max((int(np.count_nonzero(size)) for size in sizes), default=0)
    for k in range(n_kept):
        found = _over_folds(np.array([share[k] for share in shares]))
        yield {"quantity": _WEIGHT, "neurons": k + 1, **found}


def _over_folds(values: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "value": values.mean(), "low": values.min(), "high": values.max(), "folds": values.size,
    }  # fmt: skip


def _judged_on(model: ModelResults) -> dict[str, int]:
    """Items and images that the sparse probe was judged on."""
    found = model.table(PROBES).filter(
        predictor="sparse", metric="auroc", scope=WITHIN_STRATA, layer=NOT_A_LAYER
    )
    return (
        dict(zip(("n", "images"), found.select("n", "n_groups").row(0), strict=True))
        if len(found)
        else {}
    )


def draw(study: StudyResults) -> Figure:
    """Draw the neurons kept by layer, and the weight on the largest ones."""
    shown = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, 2.4], share_x="none", share_y=True,
        y_labels=["neurons kept, %", "weight on them, %"],
    )  # fmt: skip
    drawn = []
    for model, (above, below) in columns:
        rows = of_model(shown, model.name)
        if rows.is_empty():
            not_run(above)
            not_run(below)
            continue
        _draw_layers(above, rows.filter(quantity=_KEPT))
        _draw_weights(below, rows.filter(quantity=_WEIGHT))
        if rows["n"].null_count() == 0:
            note(above, counts_of(rows))
        drawn += [above, below]
    from_zero(drawn)
    keys = [line_key("mean over folds", BLUE), area_key("range over folds", BLUE, 0.18)]
    add_key(figure, keys if drawn else [])
    return figure


def _draw_layers(ax: Axes, rows: pl.DataFrame) -> None:
    ribbon(ax, rows["layer"], *(100 * rows[name] for name in _ENDS), colour=BLUE)
    layer_axis(ax, int(rows["layer"].to_numpy().max()) + 1)


_ENDS = ("value", "low", "high")


def _draw_weights(ax: Axes, rows: pl.DataFrame) -> None:
    if rows.is_empty():
        not_run(ax, "no neuron has a weight")
        return
    ends = (100 * rows[name] for name in _ENDS)
    ribbon(ax, rows["neurons"], *ends, colour=BLUE, marker=None)
    ax.set_ylim(top=103)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_xlabel("largest neurons")

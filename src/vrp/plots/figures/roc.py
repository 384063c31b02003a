"""ROC curves within strata of the main signals and probes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from vrp.estimates.predictors import predictor_label
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.panels import add_key, counts_of, line_key, model_panels, not_run, note, panel_width
from vrp.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    size_in_force,
    with_symbols,
)
from vrp.probing.labels import LINEAR_BEST
from vrp.signals.registry import SIGNALS, registered_signals
from vrp.stats.clusters import numbered
from vrp.stats.roc import stratified_roc
from vrp.stats.ties import merge_near_ties
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, NOT_A_LAYER, PROBES, WITHIN_STRATA
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table, strata_of

ORDER = 22
TITLE = "Right answers against wrong ones: ROC curves within strata"
CAPTION = (
    "Share of the right answers above a threshold against the share of the wrong ones, among items "
    "of one stratum (task × form of the answer). Curves are means over strata with the weights of "
    "the AUROC, so the area under a curve is the AUROC within strata, which is given below with "
    "its 95% interval clustered by image. Dotted: chance."
)

_LOOKS: Mapping[str, tuple[str, object]] = {
    LINEAR_BEST: (BLUE, "-"),
    "fusion": (BLACK, "-"),
    "decision_margin": (GREEN, (0, (5, 1.5))),
    "token_confidence": (ORANGE, (0, (3, 1, 1, 1))),
    "self_consistency": (PURPLE, "-."),
    "logit_entropy": (VERMILLION, "--"),
    "spatial_entropy": (GREY, ":"),
    "cluster_count_dbscan": (SKY, (0, (1, 1))),
}
"""Predictor → colour and dashes, in the order of the key; signals of extensions follow."""
_EXTENSION_LOOK = (BLACK, (0, (6, 1, 1, 1, 1, 1)))
_ROOM = 3.0  # inches from which on AUROCs stand in two columns
_POINTS = 300  # of a curve, so that files stay small

TABLES = (signal_table(), METRICS, PROBES, PREDICTIONS)
_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT,
    "false_positive_rate": NUMBER, "true_positive_rate": NUMBER,
    **INTERVAL,
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model, predictor and point of its curve, with the AUROC that the tables state."""
    return table_of_marks(
        (
            {"model": model.name, **point}
            for model in study.models
            for name in (*_LOOKS, *registered_signals())
            for point in _curve(model, name)
        ),
        _COLUMNS,
    )


def _curve(model: ModelResults, name: str) -> list[dict[str, Any]]:
    """The points of one curve; none where the predictor has no AUROC."""
    stated = pl.concat([model.table(METRICS), model.table(PROBES)]).filter(
        pl.col("value").is_finite(), predictor=name, metric="auroc", scope=WITHIN_STRATA,
        layer=NOT_A_LAYER,
    )  # fmt: skip
    if stated.is_empty():
        return []
    number = interval_of(stated.row(0, named=True))
    rows = _scores(model, name)
    codes, _ = numbered(rows["group"].to_numpy())
    found = stratified_roc(
        merge_near_ties(rows["score"]), rows["correct"].to_numpy(), codes,
        strata_of(rows).to_numpy(), folds=rows["fold"].to_numpy(),
    )  # fmt: skip
    chosen = np.unique(np.linspace(0, found.false_positive.size - 1, _POINTS).round().astype(int))
    return [
        {
            "predictor": name, "label": predictor_label(name), "false_positive_rate": x,
            "true_positive_rate": y, **number,
        }
        for x, y in zip(found.false_positive[chosen], found.true_positive[chosen], strict=True)
    ]  # fmt: skip


def _scores(model: ModelResults, name: str) -> pl.DataFrame:
    """Judged items with a `score`, larger for more confidence, and the `fold` it comes from."""
    judged = model.table(signal_table()).drop_nulls("correct")
    if name not in SIGNALS:
        scores = model.table(PREDICTIONS).filter(probe=name).select("item_id", "fold", "score")
        joined = judged.join(scores, on="item_id")
        return joined.with_columns(pl.col("score").cast(pl.Float64))
    sign = -1.0 if SIGNALS[name].reliable_when == "low" else 1.0
    return judged.with_columns(score=sign * pl.col(name).cast(pl.Float64), fold=pl.lit(0))


def draw(study: StudyResults) -> Figure:
    """Draw a panel a model, and each curve's AUROC below it."""
    shown = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[4.9], share_y=True, y_labels=["share of right answers"]
    )
    for model, (ax,) in columns:
        rows = of_model(shown, model.name)
        if rows.is_empty():
            not_run(ax)
            continue
        _draw_model(ax, rows, panel_width(len(study.models)))
        note(ax, counts_of(rows))
    names = [name for name in (*_LOOKS, *registered_signals()) if name in shown["predictor"]]
    keys = [
        line_key(with_symbols(predictor_label(name)), colour, linestyle=dashes)
        for name in names
        for colour, dashes in [_LOOKS.get(name, _EXTENSION_LOOK)]
    ]
    add_key(figure, keys)
    return figure


def _draw_model(ax: Axes, rows: pl.DataFrame, width: float) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.9)
    for (name,), points in rows.partition_by("predictor", as_dict=True).items():
        colour, dashes = _LOOKS.get(str(name), _EXTENSION_LOOK)
        stated = points.row(0, named=True)
        ax.plot(
            points["false_positive_rate"], points["true_positive_rate"], color=colour,
            linestyle=dashes, label="{value:.2f} [{low:.2f}, {high:.2f}]".format(**stated),
        )  # fmt: skip
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("share of wrong answers")
    figure = ax.get_figure(root=True)
    below = offset_copy(ax.transAxes, figure, y=-3.6 * size_in_force().text, units="points")
    ax.legend(
        loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0,
        title="AUROC", alignment="left", ncols=2 if width > _ROOM else 1, labelspacing=0.25,
    )  # fmt: skip

"""Number of clusters of attention, for right and wrong answers."""

import math
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    NO_VALUES,
    absence,
    add_key,
    area_key,
    counted,
    from_zero,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import RIGHT, WRONG
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, WITHIN_STRATA
from vrp.tables.signals import signal_table

ORDER = 50
TITLE = "Number of attention clusters in right and in wrong answers"
CAPTION = (
    "Share of the right (filled) and of the wrong (outlined) answers at each cluster count C_k, by "
    "both published definitions. Where the two shapes coincide, the count carries no information "
    "about the answer: the AUROC above each panel is then near 0.5."
)

_DEFINITIONS = (
    ("cluster_count_dbscan", "by DBSCAN"),
    ("cluster_count_components", "by components"),
)
_SIGNALS = signal_table().only("correct", "group", *(name for name, _ in _DEFINITIONS))
TABLES = (_SIGNALS, METRICS)
_MAX_BINS = 25
_AUROC, _OF_RIGHT, _OF_WRONG = "AUROC", "share of right answers", "share of wrong answers"
_COLUMNS = {
    "model": TEXT, "signal": TEXT, "quantity": TEXT, "stratum": TEXT, "bin_low": NUMBER,
    "bin_high": NUMBER, **INTERVAL,
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """Return the distribution of both counts, right answers and wrong ones, and the AUROCs.

    A bin's n is of all answers that are right, or wrong, of which its value is the share.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models:
        for signal, _ in _DEFINITIONS:
            key = {"model": model.name, "signal": signal}
            rows += [{**key, **mark} for mark in _histograms(model, signal)]
            found = model.table(METRICS).filter(
                predictor=signal, metric="auroc", scope=WITHIN_STRATA
            )
            rows += [
                {**key, "quantity": _AUROC, "stratum": WITHIN_STRATA, **interval_of(row)}
                for row in found.iter_rows(named=True)
            ]
    return table_of_marks(rows, _COLUMNS)


def _histograms(model: ModelResults, signal: str) -> list[dict[str, Any]]:
    frame = _counted(model, signal)
    if frame.is_empty():
        return []
    edges = _edges(frame[signal].to_numpy())
    marks = []
    for quantity, correct in ((_OF_RIGHT, True), (_OF_WRONG, False)):
        own = frame.filter(correct=correct)
        shares = np.histogram(own[signal].to_numpy(), edges)[0] / max(len(own), 1)
        for low, high, share in zip(edges, edges[1:], shares if len(own) else (), strict=False):
            mark = {"quantity": quantity, "bin_low": low, "bin_high": high, "value": share}
            marks.append({**mark, "n": len(own), "images": own["group"].n_unique()})
    return marks


def draw(study: StudyResults) -> Figure:
    """Draw the distribution of both cluster counts, right answers against wrong ones."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.3, 2.3], share_x="none", y_labels=["share of answers"] * 2
    )
    for model, column in columns:
        for ax, (signal, words) in zip(column, _DEFINITIONS, strict=True):
            own = of_model(marks, model.name).filter(pl.col("quantity") != _AUROC, signal=signal)
            if own.is_empty():
                not_run(ax, absence(model.table(_SIGNALS), signal) or NO_VALUES)
                continue
            aurocs = of_model(marks, model.name).filter(quantity=_AUROC, signal=signal)
            _draw_counts(ax, own, aurocs, words)
    keys = [area_key("right answers", RIGHT, alpha=0.45), line_key("wrong answers", WRONG)]
    add_key(figure, keys)
    return figure


def _draw_counts(ax: Axes, marks: pl.DataFrame, aurocs: pl.DataFrame, words: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        _OF_RIGHT: {"color": RIGHT, "fill": True, "alpha": 0.45},
        _OF_WRONG: {"color": WRONG, "baseline": None},
    }
    counts = []
    for quantity, look in looks.items():
        rows = marks.filter(quantity=quantity)
        if len(rows):
            ax.stairs(rows["value"], [rows["bin_low"][0], *rows["bin_high"]], **look)
            counts.append(counted(rows["n"][0], rows["images"][0], quantity.split()[2]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.set_xlabel(f"clusters {words}")
    from_zero([ax])
    lines = [_auroc_words(row) for row in aurocs.drop_nulls("value").iter_rows(named=True)]
    note(ax, "\n".join([*lines, *counts]))


def _counted(model: ModelResults, signal: str) -> pl.DataFrame:
    signals = model.table(_SIGNALS).drop_nulls("correct")
    return signals.filter(pl.col(signal).is_finite())


def _edges(counts: NDArray) -> NDArray[np.float64]:
    """Edges of bins around whole numbers, wider ones where the range is long."""
    low, high = math.floor(counts.min()), math.ceil(counts.max())
    width = max(1, math.ceil((high - low + 1) / _MAX_BINS))
    return np.arange(low, high + width + 1, width) - 0.5


def _auroc_words(row: dict[str, Any]) -> str:
    ends = "" if row["low"] is None else f" [{row['low']:.2f},\u00a0{row['high']:.2f}]"
    return f"AUROC within strata {row['value']:.2f}{ends}"

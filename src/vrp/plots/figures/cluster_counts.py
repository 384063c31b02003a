"""Number of clusters of attention, for right and wrong answers."""

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vrp.plots.panels import (
    NO_VALUES,
    absence,
    add_key,
    area_key,
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
TITLE = "Into how many clusters attention falls, for right and wrong answers"
CAPTION = (
    "Share of the right (filled) and of the wrong (outlined) answers at each cluster count C_k, "
    "under both published definitions. Where the two shapes coincide, the count says nothing about "
    "the answer: the AUROC over each panel is then near 0.5."
)

_DEFINITIONS = (
    ("cluster_count_dbscan", "by DBSCAN"),
    ("cluster_count_components", "by components"),
)
_SIGNALS = signal_table().only("correct", *(name for name, _ in _DEFINITIONS))
TABLES = (_SIGNALS, METRICS)
_MAX_BINS = 25


def draw(study: StudyResults) -> Figure:
    """Draw the distribution of both cluster counts, right answers against wrong ones."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, 2.2], share_x="none", y_labels=["share of answers"] * 2
    )
    for model, column in columns:
        for ax, (signal, words) in zip(column, _DEFINITIONS, strict=True):
            _draw_counts(ax, model, signal, words)
    keys = [
        area_key("right answers", RIGHT, alpha=0.45),
        line_key("wrong answers", WRONG),
    ]
    add_key(figure, keys)
    return figure


def _draw_counts(ax: Axes, model: ModelResults, signal: str, words: str) -> None:
    signals = model.table(_SIGNALS)
    reason = absence(signals, signal)
    frame = signals.drop_nulls("correct").filter(pl.col(signal).is_finite())
    if reason or frame.is_empty():
        not_run(ax, reason or NO_VALUES)
        return
    counts, right = frame[signal].to_numpy(), frame["correct"].to_numpy()
    edges = _edges(counts)
    if right.any():
        ax.stairs(_shares(counts[right], edges), edges, color=RIGHT, fill=True, alpha=0.45)
    if not right.all():
        ax.stairs(_shares(counts[~right], edges), edges, color=WRONG, linewidth=1.8, baseline=None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.set_xlabel(f"clusters {words}")
    from_zero([ax])
    note(ax, _auroc_note(model, signal))


def _shares(counts: NDArray, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.histogram(counts, edges)[0] / len(counts)


def _edges(counts: NDArray) -> NDArray[np.float64]:
    """Edges of bins around whole numbers, wider ones where the range is long."""
    low, high = math.floor(counts.min()), math.ceil(counts.max())
    width = max(1, math.ceil((high - low + 1) / _MAX_BINS))
    return np.arange(low, high + width + 1, width) - 0.5


def _auroc_note(model: ModelResults, signal: str) -> str:
    found = model.table(METRICS).filter(predictor=signal, metric="auroc", scope=WITHIN_STRATA)
    if found.is_empty():
        return ""
    row = found.row(0, named=True)
    return f"AUROC {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

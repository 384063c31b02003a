"""Distributions of H_s and of C_k, by both definitions, for right and wrong answers."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_label
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, table_of_marks
from vrp.plots.panels import (
    NO_VALUES,
    absence,
    add_key,
    counted,
    from_zero,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import RIGHT, WRONG, with_symbols
from vrp.stats.clusters import numbered
from vrp.stats.estimate import Estimate
from vrp.stats.proportion import clustered_share
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, WITHIN_STRATA
from vrp.tables.signals import signal_table

ORDER = 48
TITLE = "Sharp or scattered attention, in right and in wrong answers"
CAPTION = (
    "Share of the right and of the wrong answers in each bin of the spatial entropy and of the "
    "number of attention clusters, by both published definitions, with 95% intervals clustered by "
    "image as bands. All kinds of question are pooled here, so the two also part where a kind is "
    "answered right more often; what the value tells of the answer is the AUROC within strata, "
    "given above."
)

_COUNTS = ("cluster_count_dbscan", "cluster_count_components")
_SIGNALS = ("spatial_entropy", *_COUNTS)
_TABLE = signal_table().only("correct", "group", *_SIGNALS)
TABLES = (_TABLE, METRICS)
_BINS = 24
_AUROC, _SHARE = "AUROC within strata", "share of answers"
_COLUMNS = {
    "model": TEXT, "signal": TEXT, "label": TEXT, "mark": TEXT, "answers": TEXT, "bin_low": NUMBER,
    "bin_high": NUMBER, **INTERVAL,
}  # fmt: skip
_LOOKS = {"right": (RIGHT, "-"), "wrong": (WRONG, "--")}


def data(study: StudyResults) -> pl.DataFrame:
    """Of each model and signal: its AUROC within strata, and the share of answers in each bin.

    One row a bin and kind of answer; `n` and `images` are those of all right, or all wrong,
    answers that have a value.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models:
        judged = model.table(_TABLE).drop_nulls("correct")
        for signal in _SIGNALS:
            known = judged.filter(pl.col(signal).is_finite())
            key = {"model": model.name, "signal": signal, "label": predictor_label(signal)}
            if len(known):
                rows += [
                    {**key, **mark} for mark in (*_auroc(model, signal), *_bins(known, signal))
                ]
    return table_of_marks(rows, _COLUMNS)


def _auroc(model: ModelResults, signal: str) -> Iterator[dict[str, Any]]:
    found = model.table(METRICS).filter(predictor=signal, metric="auroc", scope=WITHIN_STRATA)
    for row in found.iter_rows(named=True):
        yield {"mark": _AUROC, **interval_of(row)}


def _bins(known: pl.DataFrame, signal: str) -> Iterator[dict[str, Any]]:
    edges = _edges(signal, known[signal].to_numpy().astype(np.float64))
    for answers in _LOOKS:
        some = known.filter(pl.col("correct") == (answers == "right"))
        for b, share in enumerate(_shares(some, signal, edges)):
            yield {
                "mark": _SHARE, "answers": answers, "bin_low": edges[b], "bin_high": edges[b + 1],
                **interval_of(share._asdict()),
            }  # fmt: skip


def _edges(signal: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins: around whole numbers for counts, of equal width for other values."""
    low, high = float(values.min()), float(values.max())
    if signal in _COUNTS:
        width = max(1, math.ceil((high - low + 1) / _BINS))
        return np.arange(low, high + width + 1, width) - 0.5
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _shares(some: pl.DataFrame, signal: str, edges: NDArray) -> list[Estimate]:
    """Share of the answers in each bin; none where there is no such answer."""
    if some.is_empty():
        return []
    values = some[signal].to_numpy().astype(np.float64)
    codes, n_images = numbered(some["group"].to_numpy())
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [clustered_share(bins == b, codes, n_images=n_images) for b in range(len(edges) - 1)]


def draw(study: StudyResults) -> Figure:
    """Draw a panel a model and signal."""
    shown = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[1.9] * len(_SIGNALS), share_x="none",
        y_labels=["share of answers"] * len(_SIGNALS),
    )  # fmt: skip
    drawn = []
    for model, panels in columns:
        for ax, signal in zip(panels, _SIGNALS, strict=True):
            rows = shown.filter(model=model.name, signal=signal)
            if rows.is_empty():
                not_run(ax, absence(model.table(_TABLE), signal) or NO_VALUES)
                continue
            bins = rows.filter(mark=_SHARE)
            _draw_shares(ax, bins)
            counts = _counts(bins) if ax is panels[0] else []
            for text in (*counts, *_auroc_words(rows.filter(mark=_AUROC))):
                note(ax, text)
            ax.set_xlabel(with_symbols(predictor_label(signal)))
            ax.xaxis.set_major_locator(MaxNLocator(integer=signal in _COUNTS, nbins=6))
            drawn.append(ax)
    from_zero(drawn)
    keys = [
        line_key(f"{answers} answers", colour, linestyle=line)
        for answers, (colour, line) in _LOOKS.items()
    ]
    add_key(figure, keys if drawn else [])
    return figure


def _draw_shares(ax: Axes, rows: pl.DataFrame) -> None:
    for answers, (colour, line) in _LOOKS.items():
        some = rows.filter(answers=answers)
        if some.is_empty():
            continue
        edges = [*some["bin_low"], some["bin_high"][-1]]
        ax.stairs(
            some["high"].to_numpy(), edges, baseline=some["low"].to_numpy(), fill=True,
            color=colour, alpha=0.2, linewidth=0,
        )  # fmt: skip
        ax.stairs(some["value"].to_numpy(), edges, color=colour, linestyle=line, baseline=None,
                  linewidth=1.3)  # fmt: skip


def _counts(rows: pl.DataFrame) -> list[str]:
    counts = rows.unique("answers", maintain_order=True).select("n", "answers", "images")
    return [counted(n, images, answers) for n, answers, images in counts.rows()]


def _auroc_words(marks: pl.DataFrame) -> list[str]:
    return [
        "AUROC {value:.2f} [{low:.2f}, {high:.2f}]".format(**row)
        for row in marks.drop_nulls(["value", "low", "high"]).iter_rows(named=True)
    ]

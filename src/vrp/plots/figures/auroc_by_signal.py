"""AUROC of each signal and probe."""

import math
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.config.margins import EquivalenceMargins
from vrp.estimates.predictors import PREDICTOR_KINDS, predictor_kind, predictor_label
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Standing, standing
from vrp.plots.panels import (
    add_key,
    chance_key,
    dot_key,
    interval_dot,
    is_leftmost,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import DARK_GREY, KIND_COLOURS, with_symbols
from vrp.signals.registry import SIGNALS
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, PROBES, WITHIN_STRATA

ORDER = 20
TITLE = "Where reliability can be read: AUROC for right against wrong answers"
CAPTION = (
    "AUROC within strata (task × form of the answer) with its 95% image-clustered interval; the "
    "line is chance, the band what counts as chance in this study, and ≈ marks values shown to be "
    "equivalent to chance after correction (not merely non-significant). Signals are turned so "
    "that above 0.5 means reliable as claimed; hollow dots are diagnostics that hold the label and "
    "could not be deployed."
)
TABLES = (METRICS, PROBES)

_ROW = 0.185  # inches
_KIND_TITLES = {
    "structural": "attention map",
    "mechanistic": "residual stream, logit lens",
    "behavioural": "answers",
    "supervised_attention": "fitted to attention",
    "probes": "fitted to states, signals",
    "guards": "baselines and guards",
}


class _Line(NamedTuple):
    """One line of the figure: a heading of a kind, or a predictor."""

    label: str
    predictor: str | None
    kind: str


def draw(study: StudyResults) -> Figure:
    """Draw one row a predictor, one column a model."""
    by_model = [_estimates(model) for model in study.models]
    lines = _lines(by_model)
    height = _ROW * (len(lines) + 1) + 0.85
    figure, columns = model_panels(study, TITLE, heights=[max(height, 1.6)], share_x="all")
    for (_, (ax,)), estimates in zip(columns, by_model, strict=True):
        if estimates.is_empty():
            not_run(ax)
        else:
            _draw_model(ax, lines, estimates, study.margins, labelled=is_leftmost(ax))
            n_items, n_images = estimates.select("n", "n_groups").max().row(0)
            note(ax, f"{n_items:,} items, {n_images:,} images")
    if lines:
        _set_limits(columns[0][1][0], by_model)
    keys = [
        dot_key("AUROC with 95% interval", DARK_GREY),
        dot_key("diagnostic: needs annotations", DARK_GREY, hollow=True),
        chance_key(study.margins),
    ]
    add_key(figure, keys if lines else [])
    return figure


def _estimates(model: ModelResults) -> pl.DataFrame:
    """Macro AUROC of each predictor that has one value rather than one a layer."""
    rows = pl.concat([model.table(METRICS), model.table(PROBES)]).filter(
        pl.col("metric") == "auroc", pl.col("scope") == WITHIN_STRATA, pl.col("value").is_finite()
    )
    # Probes of each layer have a figure of their own; one that has a single layer is shown here.
    whole = rows.filter(pl.col("layer") < 0)
    single = rows.filter(pl.col("layer") >= 0, pl.len().over("predictor") == 1)
    return pl.concat([whole, single]).unique("predictor", keep="first", maintain_order=True)


def _lines(by_model: list[pl.DataFrame]) -> list[_Line]:
    """Kinds with their predictors, the best (mean over models) first."""
    found = pl.concat([frame.select("predictor", "value") for frame in by_model] or [_NOTHING])
    means = found.group_by("predictor").mean().sort("value", "predictor", descending=[True, False])
    lines = []
    for kind in PREDICTOR_KINDS:
        members = [p for p in means["predictor"] if predictor_kind(p) == kind]
        if members:
            lines.append(_Line(_KIND_TITLES[kind], None, kind))
            lines += [_Line(with_symbols(predictor_label(p)), p, kind) for p in members]
    return lines


_NOTHING = pl.DataFrame(schema={"predictor": pl.String, "value": pl.Float64})


def _draw_model(
    ax: Axes,
    lines: list[_Line],
    estimates: pl.DataFrame,
    margins: EquivalenceMargins,
    *,
    labelled: bool,
) -> None:
    rows = {row["predictor"]: row for row in estimates.iter_rows(named=True)}
    reference_band(ax, *margins.chance, horizontal=False)
    zero_line(ax, at=0.5, horizontal=False)
    for place, line in enumerate(lines):
        row = rows.get(line.predictor or "")
        if row is None:
            continue
        signal = SIGNALS.get(row["predictor"])
        interval_dot(
            ax, place, row["value"], row["low"], row["high"], colour=KIND_COLOURS[line.kind],
            hollow=signal is not None and not signal.deployable,
        )  # fmt: skip
        where = standing(ReportedEstimate.from_row(row), null=0.5)
        ax.annotate(
            f"{'≈ ' if where is Standing.EQUIVALENT else ''}{row['value']:.2f}", xy=(1.02, place),
            xycoords=("axes fraction", "data"), va="center_baseline", ha="left", fontsize=7.5,
            color=DARK_GREY,
        )  # fmt: skip
    ax.set_yticks(range(len(lines)), [line.label for line in lines] if labelled else [])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_xlabel("AUROC within strata")
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    if labelled:
        for tick, line in zip(ax.get_yticklabels(), lines, strict=True):
            if line.predictor is None:
                tick.set_fontweight("bold")
                tick.set_color(KIND_COLOURS[line.kind])


def _set_limits(ax: Axes, by_model: list[pl.DataFrame]) -> None:
    ends = pl.concat(by_model).select(pl.concat_list("value", "low").list.min()).to_series()
    lowest = float(np.nanmin(ends.to_numpy()))
    ax.set_xlim(min(0.4, math.floor(10 * lowest) / 10), 1.03)

"""AUROC of each signal and probe."""

import math
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.config.margins import EquivalenceMargins
from vrp.estimates.predictors import PREDICTOR_KINDS, predictor_kind, predictor_label
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Standing, standing
from vrp.plots.marks import INTERVAL, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.named_rows import rows_of
from vrp.plots.panels import (
    add_key,
    chance_key,
    counted,
    dot_key,
    interval_dot,
    is_leftmost,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import DARK_GREY, KIND_COLOURS, size_in_force, with_symbols
from vrp.signals.registry import SIGNALS
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import METRICS, PROBES, WITHIN_STRATA

ORDER = 20
TITLE = "Where reliability can be read: AUROC for right against wrong answers"
CAPTION = (
    "AUROC within strata (task × form of the answer) with its 95% interval clustered by image. The "
    "line is chance, the band is what counts as chance in this study, and ≈ marks values shown to "
    "be equivalent to chance after correction (not merely non-significant). Signals are oriented "
    "such that values above 0.5 agree with the expected direction; hollow dots are diagnostics "
    "that use the label and cannot be deployed."
)
TABLES = (METRICS, PROBES)

_ROW = 0.19  # inches
_ROOM = 5.0  # inches of width from which on values stand beside the rows
_KIND_TITLES = {
    "structural": "attention map",
    "mechanistic": "residual stream, logit lens",
    "behavioural": "answers",
    "supervised_attention": "fitted to attention",
    "probes": "fitted to states, signals",
    "guards": "baselines and guards",
}


_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT, "kind": TEXT, "deployable": pl.Boolean(),
    "stratum": TEXT, **INTERVAL, "equivalent_to_chance": pl.Boolean(),
}  # fmt: skip


class _Line(NamedTuple):
    """One line of the figure: a heading of a kind, or a predictor."""

    label: str
    predictor: str | None
    kind: str


def data(study: StudyResults) -> pl.DataFrame:
    """Return the AUROC within strata of each signal and probe, in the order of their kinds."""
    rows = []
    for model in study.models:
        found = {row["predictor"]: row for row in _estimates(model).iter_rows(named=True)}
        for predictor in sorted(found, key=_rank):
            row, signal = found[predictor], SIGNALS.get(predictor)
            where = standing(ReportedEstimate.from_row(row), null=0.5)
            rows.append(
                {
                    "model": model.name,
                    "predictor": predictor,
                    "label": predictor_label(predictor),
                    "kind": predictor_kind(predictor),
                    "deployable": signal is None or signal.deployable,
                    "stratum": WITHIN_STRATA,
                    **interval_of(row),
                    "equivalent_to_chance": where is Standing.EQUIVALENT,
                }
            )
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw one row a predictor, one column a model."""
    marks = data(study)
    lines = _lines(marks)
    rows = rows_of([line.label for line in lines], row=_ROW)
    figure, columns = model_panels(study, TITLE, heights=[rows.height], share_x="all", rows=rows)
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
        else:
            places = dict(zip((line.predictor for line in lines), rows.places, strict=True))
            _draw_model(ax, places, own, study.margins)
        _mark_headings(ax, lines)
    if len(marks):
        _set_limits(columns[0][1][0], marks)
    keys = [
        dot_key("AUROC with 95% interval", DARK_GREY),
        dot_key("diagnostic: needs annotations", DARK_GREY, hollow=True),
        chance_key(study.margins),
    ]
    add_key(figure, keys if lines else [])
    return figure


def _estimates(model: ModelResults) -> pl.DataFrame:
    """AUROC of each predictor that has one value rather than one a layer."""
    rows = pl.concat([model.table(METRICS), model.table(PROBES)]).filter(
        pl.col("metric") == "auroc", pl.col("scope") == WITHIN_STRATA, pl.col("value").is_finite()
    )
    # Probes of each layer have a figure of their own; one that has a single layer is shown here.
    whole = rows.filter(pl.col("layer") < 0)
    single = rows.filter(pl.col("layer") >= 0, pl.len().over("predictor") == 1)
    return pl.concat([whole, single]).unique("predictor", keep="first", maintain_order=True)


def _rank(predictor: str) -> tuple[int, str]:
    return PREDICTOR_KINDS.index(predictor_kind(predictor)), predictor


def _lines(marks: pl.DataFrame) -> list[_Line]:
    """Kinds with their predictors, the best (mean over models) first."""
    means = marks.group_by("predictor", "label", "kind").agg(pl.col("value").mean())
    means = means.sort("value", "predictor", descending=[True, False])
    lines = []
    for kind in PREDICTOR_KINDS:
        members = means.filter(kind=kind)
        if len(members):
            lines.append(_Line(_KIND_TITLES[kind], None, kind))
            lines += [
                _Line(with_symbols(label), predictor, kind)
                for predictor, label in members.select("predictor", "label").iter_rows()
            ]
    return lines


def _draw_model(
    ax: Axes, places: dict[str | None, float], marks: pl.DataFrame, margins: EquivalenceMargins
) -> None:
    reference_band(ax, *margins.chance, horizontal=False)
    zero_line(ax, at=0.5, horizontal=False)
    for row in marks.iter_rows(named=True):
        place = places[row["predictor"]]
        interval_dot(
            ax, place, row["value"], row["low"], row["high"],
            colour=KIND_COLOURS[row["kind"]], hollow=not row["deployable"],
        )  # fmt: skip
        ax.annotate(
            _number(row), xy=(1.02, place), xycoords=("axes fraction", "data"),
            va="center_baseline", ha="left", color=DARK_GREY,
        )  # fmt: skip
    ax.set_xlabel("AUROC within strata")
    largest = marks.sort("n", descending=True, maintain_order=True).row(0, named=True)
    note(ax, counted(largest["n"], largest["images"]))


def _number(row: dict[str, Any]) -> str:
    """The value beside a row; in a column there is room for the mark of equivalence alone."""
    mark = "≈" if row["equivalent_to_chance"] else ""
    return mark if size_in_force().inches < _ROOM else f"{mark} {row['value']:.2f}".strip()


def _mark_headings(ax: Axes, lines: list[_Line]) -> None:
    if is_leftmost(ax):
        for tick, line in zip(ax.get_yticklabels(), lines, strict=True):
            if line.predictor is None:
                tick.set_fontweight("bold")
                tick.set_color(KIND_COLOURS[line.kind])


def _set_limits(ax: Axes, marks: pl.DataFrame) -> None:
    lowest = float(np.nanmin(marks.select("value", "low").to_numpy()))
    ax.set_xlim(min(0.4, math.floor(10 * lowest) / 10), 1.03)

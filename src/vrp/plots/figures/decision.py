"""Cost of every deployable signal and probe against its AUROC."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.estimates.predictors import predictor_kind, predictor_label
from vrp.findings.evidence import evidence_tables, model_evidence
from vrp.findings.recommendation import choose, cost_of, deployable
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    interval_dot,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import BLACK, KIND_COLOURS, with_symbols
from vrp.study.results import StudyResults

ORDER = 15
TITLE = "Which signal to trust: cost and AUROC of each"
CAPTION = (
    "AUROC within strata, with 95% intervals clustered by image, of every predictor that needs no "
    "label when it is used, grouped by the number of additional model runs per item (prefills and "
    "sampled answers). The star is the highest AUROC and the band its interval. The ring is the "
    "recommended signal: the cheapest that is shown to be about as good as the best."
)
TABLES = evidence_tables()

_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT, "kind": TEXT,
    "further_runs": NUMBER, "fitted": pl.Boolean(), **INTERVAL, "recommended": pl.Boolean(),
    "best": pl.Boolean(),
}  # fmt: skip
_KINDS = {
    "structural": ("attention", "^"),
    "mechanistic": ("residual stream", "s"),
    "behavioural": ("answers", "o"),
    "probes": ("fitted to labels", "D"),
}
_GAP = 1.5  # between groups of one cost, in steps between their dots


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model and predictor: its cost and AUROC; the cheapest first, then the best."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        evidence = model_evidence(model, study)
        choice, found = choose(evidence), []
        for name in deployable(evidence):
            number, cost = evidence.auroc(name), cost_of(evidence, name)
            if number is None or not number.defined:
                continue
            found.append({
                "model": model.name, "predictor": name, "label": predictor_label(name),
                "kind": predictor_kind(name), "further_runs": cost.forwards, "fitted": cost.fitted,
                **interval_of(number._asdict()),
                "recommended": choice is not None and name == choice.predictor,
                "best": choice is not None and name == choice.best,
            })  # fmt: skip
        rows += sorted(
            found, key=lambda row: (row["further_runs"], -row["value"], row["predictor"])
        )
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw a panel a model: groups of one cost from left to right, the best of each first."""
    shown = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[3.0], share_x="none", share_y=True, y_labels=["AUROC within strata"]
    )
    for model, (ax,) in columns:
        rows = of_model(shown, model.name)
        if rows.is_empty():
            not_run(ax)
            continue
        _draw_model(ax, rows)
        for text in (counts_of(rows), *_named(rows)):
            note(ax, text)
    kinds = [kind for kind in _KINDS if kind in shown["kind"]]
    keys = [dot_key(_KINDS[kind][0], KIND_COLOURS[kind], marker=_KINDS[kind][1]) for kind in kinds]
    add_key(figure, keys)
    return figure


def _draw_model(ax: Axes, rows: pl.DataFrame) -> None:
    group = (pl.col("further_runs").rank("dense") - 1).cast(pl.Float64)
    placed = rows.with_columns(place=pl.int_range(pl.len()) + _GAP * group)
    zero_line(ax, at=0.5)
    for row in placed.filter("best").iter_rows(named=True):
        reference_band(ax, row["low"], row["high"])
    for row in placed.iter_rows(named=True):
        marker = _KINDS[row["kind"]][1]
        interval_dot(
            ax, row["place"], row["value"], row["low"], row["high"],
            colour=KIND_COLOURS[row["kind"]], horizontal=False, marker=marker, markersize=3,
        )  # fmt: skip
    for column, marker, size in (("recommended", "o", 10), ("best", "*", 5)):
        chosen = placed.filter(column)
        ax.plot(
            chosen["place"], chosen["value"], linestyle="none", marker=marker, markersize=size,
            color=BLACK, markerfacecolor="none" if column == "recommended" else BLACK, zorder=4,
        )  # fmt: skip
    costs = placed.group_by("further_runs").agg(pl.col("place").mean()).sort("further_runs")
    ax.set_xticks(costs["place"].to_list(), [f"{cost:g}" for cost in costs["further_runs"]])
    ax.set_xlim(-1, placed["place"].to_numpy().max() + 1)
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("additional runs per item")


def _named(rows: pl.DataFrame) -> list[str]:
    """The two that are marked, by name; nothing tells where there are none."""
    found = [
        f"{sign} {with_symbols(row['label'])} {row['value']:.2f}"
        for column, sign in (("recommended", "○"), ("best", "★"))
        for row in rows.filter(column).iter_rows(named=True)
    ]
    return found or ["nothing tells right from wrong"]

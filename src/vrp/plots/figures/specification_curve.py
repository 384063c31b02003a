"""AUROC of attention by every recipe, in ascending order, with what each recipe chose."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.marks import INTERVAL, NUMBER, TEXT, WHOLE, interval_of, of_model, table_of_marks
from vrp.plots.named_rows import Rows, rows_of
from vrp.plots.panels import (
    NOT_RUN,
    add_key,
    area_key,
    chance_key,
    counts_of,
    dot_key,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import DARK_GREY, GREY, VERMILLION, with_symbols
from vrp.signals.recipes import CHOICES
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import METRICS, WITHIN_STRATA
from vrp.tables.recipes import RECIPES

ORDER = 32
TITLE = "Attention by every recipe"
CAPTION = (
    "AUROC within strata of common ways to reduce attention to one number, in ascending order, "
    "with 95% intervals. Above 0.5, sharper or less scattered attention indicates a right answer. "
    "Filled dots differ from 0.5 after Holm's correction over the recipes. The marks below show "
    "the choices of each recipe: heads, layers, attention sinks, normalisation and measure."
)
TABLES = (RECIPES, METRICS)
_CHOICES = ("measure", "layers", "heads", "sinks", "normalisation")
_ALPHA = 0.05
_ROW = 0.2  # inches
_COLUMNS = {
    "model": TEXT, "place": WHOLE, **dict.fromkeys(_CHOICES, TEXT), "stratum": TEXT, **INTERVAL,
    "p_adjusted": NUMBER, "differs": pl.Boolean(),
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """Return each model's recipes in ascending order of their AUROC within strata."""
    rows = []
    for model in study.models:
        table = model.table(RECIPES).filter(pl.col("auroc").is_finite()).sort("auroc", *_CHOICES)
        for place, row in enumerate(table.iter_rows(named=True)):
            key = {"model": model.name, "place": place, **{name: row[name] for name in _CHOICES}}
            p = {"p_adjusted": row["p_adjusted"], "differs": bool(row["p_adjusted"] < _ALPHA)}
            interval = interval_of(row, value="auroc")
            rows.append({**key, "stratum": WITHIN_STRATA, **interval, **p})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw the curve and the choices, a column a model."""
    marks, choices = data(study), _choices(study)
    rows = rows_of([_label(*choice) for choice in choices], row=_ROW)
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, rows.height], share_y=True,
        y_labels=["AUROC within strata"], rows=rows,
    )  # fmt: skip
    for model, (curve, matrix) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(curve, _why_nothing(model))
            not_run(matrix, "")
            continue
        _draw_curve(curve, own, study)
        _draw_choices(matrix, own, choices, rows)
    keys = [
        dot_key("differs from 0.5 (Holm)", VERMILLION),
        dot_key("does not", VERMILLION, hollow=True),
        area_key("95% interval", VERMILLION, 0.25),
        chance_key(study.margins),
    ]
    add_key(figure, keys)
    return figure


def _why_nothing(model: ModelResults) -> str:
    if not model.table(RECIPES).is_empty():
        return "too few right or wrong answers"
    # Metrics, and yet no recipe: maps were not captured.
    return NOT_CAPTURED if len(model.table(METRICS)) else NOT_RUN


def _choices(study: StudyResults) -> list[tuple[str, str]]:
    """Dimension and choice of every row of marks."""
    tables = [model.table(RECIPES) for model in study.models]
    made = {(name, choice) for table in tables for name in _CHOICES for choice in table[name]}
    return [
        (name, choice) for name in _CHOICES for choice in CHOICES[name] if (name, choice) in made
    ]


def _draw_curve(ax: Axes, marks: pl.DataFrame, study: StudyResults) -> None:
    reference_band(ax, *study.margins.chance)
    zero_line(ax, at=0.5)
    bounded = marks.drop_nulls(["low", "high"])
    ax.vlines(bounded["place"], bounded["low"], bounded["high"], color=VERMILLION, alpha=0.25)
    for face, differs in ((VERMILLION, True), ("white", False)):
        shown = marks.filter(differs=differs)
        ax.plot(
            shown["place"], shown["value"], linestyle="none", marker="o", markersize=2.6,
            color=VERMILLION, markerfacecolor=face, markeredgewidth=0.7,
        )  # fmt: skip
    counts = counts_of(marks)
    note(ax, f"{len(marks)} recipes, {int(marks['differs'].sum())} differ; {counts}")
    ax.tick_params(labelbottom=False)


def _draw_choices(
    ax: Axes, marks: pl.DataFrame, choices: list[tuple[str, str]], rows: Rows
) -> None:
    for row, (name, choice) in zip(rows.places, choices, strict=True):
        places = marks.filter(pl.col(name) == choice)["place"]
        ax.plot(places, [row] * len(places), linestyle="none", marker="|", color=DARK_GREY,
                markersize=4, markeredgewidth=0.8)  # fmt: skip
    for row in range(1, len(choices)):
        if choices[row][0] != choices[row - 1][0]:
            ax.axhline((rows.places[row - 1] + rows.places[row]) / 2, color=GREY, linewidth=0.6)
    ax.grid(visible=False)
    ax.set_xlabel("recipes, by AUROC")


def _label(name: str, choice: str) -> str:
    return with_symbols(
        {"sinks": f"sinks {choice}", "layers": f"layers: {choice}"}.get(name, choice)
    )

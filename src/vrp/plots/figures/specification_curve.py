"""AUROC of attention by every recipe, in ascending order, with what each recipe chose."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.panels import (
    NOT_RUN,
    add_key,
    area_key,
    chance_key,
    dot_key,
    is_leftmost,
    model_panels,
    not_run,
    note,
    reference_band,
    zero_line,
)
from vrp.plots.style import DARK_GREY, GREY, SMALL, VERMILLION
from vrp.signals.recipes import CHOICES
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import METRICS
from vrp.tables.recipes import RECIPES

ORDER = 32
TITLE = "Attention by every recipe"
CAPTION = (
    "AUROC within strata of usual ways to make one number of attention, in ascending order, "
    "with 95% intervals; above 0.5: sharper or less scattered attention means a right answer. "
    "Filled dots differ from 0.5 after Holm's correction over the recipes. The marks below show "
    "what each recipe chose: heads, layers, attention sinks, what sums to one, and the measure."
)
TABLES = (RECIPES, METRICS)
_CHOICES = ("measure", "layers", "heads", "sinks", "normalisation")
_ALPHA = 0.05


def draw(study: StudyResults) -> Figure:
    """Draw the curve and the choices, a column a model."""
    choices = _choices(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, 0.4 + 0.155 * max(1, len(choices))], share_y=True,
        y_labels=["AUROC within strata"],
    )  # fmt: skip
    for model, (curve, matrix) in columns:
        table = _sorted(model)
        if table.is_empty():
            not_run(curve, _why_nothing(model))
            matrix.set_axis_off()
            continue
        _draw_curve(curve, table, study)
        _draw_choices(matrix, table, choices)
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


def _sorted(model: ModelResults) -> pl.DataFrame:
    table = model.table(RECIPES)
    return table.filter(pl.col("auroc").is_finite()).sort("auroc", *_CHOICES)


def _choices(study: StudyResults) -> list[tuple[str, str]]:
    """Dimension and choice of every row of marks."""
    tables = [model.table(RECIPES) for model in study.models]
    made = {(name, choice) for table in tables for name in _CHOICES for choice in table[name]}
    return [
        (name, choice) for name in _CHOICES for choice in CHOICES[name] if (name, choice) in made
    ]


def _draw_curve(ax: Axes, table: pl.DataFrame, study: StudyResults) -> None:
    reference_band(ax, *study.margins.chance)
    zero_line(ax, at=0.5)
    places = range(len(table))
    ax.vlines(places, table["low"], table["high"], color=VERMILLION, alpha=0.25, linewidth=1.6)
    sure = (table["p_adjusted"] < _ALPHA).fill_null(False)
    for face, chosen in ((VERMILLION, sure), ("white", ~sure)):
        shown = table.with_row_index("place").filter(chosen)
        ax.plot(
            shown["place"], shown["auroc"], linestyle="none", marker="o", markersize=3,
            color=VERMILLION, markerfacecolor=face, markeredgewidth=0.8,
        )  # fmt: skip
    n_items = int(table["n"].to_numpy().max())
    note(ax, f"{len(table)} recipes, {int(sure.sum())} differ; n = {n_items}")
    ax.tick_params(labelbottom=False)


def _draw_choices(ax: Axes, table: pl.DataFrame, choices: list[tuple[str, str]]) -> None:
    for row, (name, choice) in enumerate(choices):
        places = [place for place, value in enumerate(table[name]) if value == choice]
        ax.plot(places, [row] * len(places), linestyle="none", marker="|", color=DARK_GREY,
                markersize=5, markeredgewidth=1.0)  # fmt: skip
    for row in range(1, len(choices)):
        if choices[row][0] != choices[row - 1][0]:
            ax.axhline(row - 0.5, color=GREY, linewidth=0.6)
    ax.set_ylim(len(choices) - 0.5, -0.5)
    ax.set_yticks(range(len(choices)), [_label(*choice) for choice in choices], fontsize=SMALL)
    ax.tick_params(labelleft=is_leftmost(ax))
    ax.grid(visible=False)
    ax.set_xlabel("recipes, by AUROC")


def _label(name: str, choice: str) -> str:
    return {"sinks": f"sinks {choice}", "layers": f"layers: {choice}"}.get(name, choice)

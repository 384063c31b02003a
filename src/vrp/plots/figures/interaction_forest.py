"""Differences between models: of what signals tell, and of what interventions do."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vrp.estimates.paired_comparison import compare, side_of
from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.estimates.verdicts import Standing, standing
from vrp.interventions.conditions import INTERVENTIONS, Condition, Contrast
from vrp.plots.condition_style import in_reading_order
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, table_of_marks
from vrp.plots.named_rows import ROW, rows_of
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    interval_dot,
    not_run,
    note,
    panels,
    reference_band,
    set_rows,
    zero_line,
)
from vrp.plots.style import DARK_GREY, model_colour, model_marker, with_symbols
from vrp.plots.verdict_marks import STANDING_MARKS
from vrp.probing.labels import LINEAR_BEST
from vrp.signals.registry import registered_signals
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.effects import EFFECTS
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

ORDER = 165
TITLE = "Does it depend on the model? Differences between models"
CAPTION = (
    "The first model of a pair minus the second, over the questions that both were asked, with 95% "
    "intervals clustered by image; filled marks differ after Holm's correction. Above: AUROC "
    "within strata. Below: the effect of an intervention on accuracy beyond its control, or the "
    "effect itself if it has no control. Only a difference here shows that a finding depends on "
    "the model."
)
TABLES = (EFFECTS, PREDICTIONS, signal_table())

_COLUMNS = {
    "model": TEXT, "other_model": TEXT, "quantity": TEXT, "intervention": TEXT, "name": TEXT,
    "label": TEXT, **INTERVAL, "p_adjusted": NUMBER, "resolvable": NUMBER, "shown": TEXT,
}  # fmt: skip
_AUROC, _POINTS = "AUROC", "percentage points of accuracy"
_PREDICTORS = (
    "spatial_entropy", "cluster_count_dbscan", "token_confidence", "decision_margin",
    "self_consistency", LINEAR_BEST, "fusion",
)  # fmt: skip
_SPREAD = 0.7  # of the distance between two rows, over which pairs are spread
_LONGEST_NAME = 22  # characters of a model's name, of which a key holds two
_DOT = 0.11  # inches a dot
_WHOLE = ("mlp", "no_image")  # conditions without a control, which are compared as they are


def data(study: StudyResults) -> pl.DataFrame:
    """One row a pair of models and contrast: the first model's number minus the second's."""
    rows = []
    for first, second in combinations(study.models, 2):
        rows += _auroc_rows(study, first, second) + _effect_rows(study, first, second)
    return table_of_marks(rows, _COLUMNS)


def _auroc_rows(
    study: StudyResults, first: ModelResults, second: ModelResults
) -> list[dict[str, object]]:
    sides = [
        side_of(model.name, model.table(signal_table()), model.table(PREDICTIONS))
        for model in (second, first)  # the comparison is that of its second side minus its first
    ]
    shared = set(sides[0].rows["item_id"]) & set(sides[1].rows["item_id"])
    if not shared:
        return []
    found = compare(*sides, margin_auroc=study.margins.auroc)
    gaps = {one.name: one.gap for one in found.aurocs}
    wanted = [name for name in (*_PREDICTORS, *registered_signals()) if name in gaps]
    return [_row(first, second, _AUROC, name, predictor_label(name), gaps[name]) for name in wanted]


def _effect_rows(
    study: StudyResults, first: ModelResults, second: ModelResults
) -> list[dict[str, object]]:
    pair = study.table(EFFECTS).filter(model=f"{first.name} - {second.name}")
    found = {}
    for row in pair.iter_rows(named=True):
        condition = study.conditions.named(row["intervention"], row["condition"])
        if isinstance(condition, Contrast) or condition.kind in _WHOLE:
            found[condition] = row["intervention"], Effect.from_row(row).effect
    ordered = sorted(in_reading_order(found), key=lambda one: INTERVENTIONS.index(found[one][0]))
    return [
        _row(first, second, _POINTS, one.name, _label(one, found), found[one][1])
        | {"intervention": found[one][0]}
        for one in ordered
        if found[one][1].defined
    ]


def _label(one: Condition | Contrast, among: Collection[Condition | Contrast]) -> str:
    """A contrast by its condition alone, unless that has several controls."""
    if isinstance(one, Contrast):
        same = [other for other in among if getattr(other, "condition", None) == one.condition]
        return one.label if len(same) > 1 else one.condition.label
    return one.label


def _row(
    first: ModelResults,
    second: ModelResults,
    quantity: str,
    name: str,
    label: str,
    number: ReportedEstimate,
) -> dict[str, object]:
    return {
        "model": first.name, "other_model": second.name, "quantity": quantity, "name": name,
        "label": label, **interval_of(number._asdict()), "p_adjusted": number.p_adjusted,
        "resolvable": number.resolvable,
        "shown": STANDING_MARKS[standing(number, null=0.0)].words,
    }  # fmt: skip


def draw(study: StudyResults) -> Figure:
    """Draw a row a contrast, in it a dot a pair of models."""
    shown = data(study)
    pairs = list(combinations([model.name for model in study.models], 2))
    labels = {
        quantity: list(dict.fromkeys(shown.filter(quantity=quantity)["label"]))
        for quantity in (_AUROC, _POINTS)
    }
    rows_for = {
        quantity: rows_of([with_symbols(one) for one in found], row=max(ROW, _DOT * len(pairs)))
        for quantity, found in labels.items()
    }
    figure, ((above,), (below,)) = panels(
        TITLE, heights=[rows.height for rows in rows_for.values()], n_columns=1
    )
    margins = {_AUROC: study.margins.auroc, _POINTS: study.margins.effect_pp}
    for ax, quantity in ((above, _AUROC), (below, _POINTS)):
        marks = shown.filter(quantity=quantity)
        if marks.is_empty():
            not_run(ax)
            continue
        set_rows(ax, rows_for[quantity])
        places = dict(zip(labels[quantity], rows_for[quantity].places, strict=True))
        _draw_rows(ax, marks, places, pairs)
        reference_band(ax, -margins[quantity], margins[quantity], horizontal=False)
        note(ax, counts_of(marks))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.set_xlabel("difference of AUROC" if quantity == _AUROC else "difference of effects, pp")
    if len(shown):
        add_key(figure, _keys(shown, pairs))
    return figure


def _keys(shown: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[Artist]:
    of_pairs = [
        dot_key(f"{_cut(one)} − {_cut(other)}", model_colour(i), marker=model_marker(i))
        for i, (one, other) in enumerate(pairs)
        if len(shown.filter(model=one, other_model=other))
    ]
    return of_pairs + [
        Line2D([], [], color=DARK_GREY, marker="o", linestyle="none", label=words, **_fill(words))
        for words in dict.fromkeys(mark.words for mark in STANDING_MARKS.values())
        if words in shown["shown"]
    ]


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _fill(words: str) -> dict[str, Any]:
    """Filled: differs; half: equivalent to none; hollow: neither is shown."""
    fill = {_DIFFERS: "full", _EQUIVALENT: "left"}.get(words, "none")
    return {"fillstyle": fill, "markerfacecoloralt": "white"}


_DIFFERS = STANDING_MARKS[Standing.ABOVE].words
_EQUIVALENT = STANDING_MARKS[Standing.EQUIVALENT].words


def _draw_rows(
    ax: Axes,
    marks: pl.DataFrame,
    places: Mapping[str, float],
    pairs: Sequence[tuple[str, str]],
) -> None:
    """Dots of a row below each other, in the order of the pairs."""
    for i, (one, other) in enumerate(pairs):
        offset = _SPREAD * ((i + 0.5) / len(pairs) - 0.5)
        for row in marks.filter(model=one, other_model=other).iter_rows(named=True):
            dot = interval_dot(
                ax, places[row["label"]] + offset, row["value"], row["low"], row["high"],
                colour=model_colour(i), marker=model_marker(i),
            )  # fmt: skip
            dot.set(**_fill(row["shown"]))
            if row["shown"] not in (_DIFFERS, _EQUIVALENT):
                dot.set_markerfacecolor("white")
    zero_line(ax, horizontal=False)

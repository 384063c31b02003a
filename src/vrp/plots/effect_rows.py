"""Effects of an intervention as rows of dots: one row a condition."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import colour_of
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of
from vrp.plots.named_rows import Rows
from vrp.plots.panels import counted, dot_key, interval_dot, note, zero_line
from vrp.plots.style import DARK_GREY, GREY

EFFECT_COLUMNS = {
    "model": TEXT, "condition": TEXT, "label": TEXT, "mark": TEXT, **INTERVAL, "baseline": NUMBER,
}  # fmt: skip
"""Columns of the marks of `effect_marks`; values are percentage points, the baseline a share."""
EFFECT, DRAW = "effect", "single draw"
"""Marks: an effect with its interval, and the effect of one random draw."""


def effect_marks(
    effects: pl.DataFrame, conditions: Sequence[Condition | Contrast], *, mark: str = EFFECT
) -> Iterator[dict[str, Any]]:
    """Yield the marks of one model, those of a condition together.

    Args:
        effects: rows of the effects table, one a condition.
        conditions: in the order of rows; those that the model lacks have no mark.
        mark: what the effects are marked as; single draws come with `EFFECT` alone.
    """
    found = {row["condition"]: row for row in effects.iter_rows(named=True)}
    for condition in conditions:
        row = found.get(condition.name)
        if row is None or row["effect"] is None or row["effect"] != row["effect"]:
            continue
        key = {"model": row["model"], "condition": condition.name, "label": condition.label}
        yield {
            **key, "mark": mark, **interval_of(row, value="effect"), "baseline": row["baseline"],
        }  # fmt: skip
        draws = row["per_seed"]
        if mark == EFFECT and len(draws) > 1 and not isinstance(condition, Contrast):
            yield from ({**key, "mark": DRAW, "value": value} for value in draws)


def draw_effects(
    ax: Axes, marks: pl.DataFrame, conditions: Sequence[Condition | Contrast], rows: Rows
) -> None:
    """Draw one model's effects and single draws in a panel that has the conditions' rows."""
    for place, condition in zip(rows.places, conditions, strict=True):
        own = marks.filter(condition=condition.name)
        draws = own.filter(mark=DRAW)["value"]
        if len(draws):
            ax.plot(
                draws, [place] * len(draws), linestyle="none", marker="|", color=GREY,
                markersize=1.6 * mpl.rcParams["lines.markersize"], zorder=1.8,
            )  # fmt: skip
        for row in own.filter(mark=EFFECT).iter_rows(named=True):
            interval_dot(
                ax, place, row["value"], row["low"], row["high"], colour=colour_of(condition)
            )
    zero_line(ax, horizontal=False)
    contrasts = [condition.name for condition in conditions if isinstance(condition, Contrast)]
    own = marks.filter(~pl.col("condition").is_in(contrasts), mark=EFFECT)
    if len(own):
        largest = own.sort("n", "condition", descending=[True, False]).row(0, named=True)
        counts = counted(largest["n"], largest["images"])
        note(ax, f"{counts}; {100 * largest['baseline']:.0f}% right before")
    ax.set_xlabel("change in accuracy, pp")


def effect_keys() -> list[Artist]:
    """The key to `draw_effects`."""
    dot = dot_key("all items, 95% interval", DARK_GREY)
    return [dot, dot_key("single random draws", GREY, marker="|")]

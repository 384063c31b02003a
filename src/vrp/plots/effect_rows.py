"""Effects of an intervention as rows of dots: one row a condition."""

from collections.abc import Sequence

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import colour_of
from vrp.plots.panels import dot_key, interval_dot, note, zero_line
from vrp.plots.style import DARK_GREY, GREY


def draw_effects(
    ax: Axes, effects: pl.DataFrame, conditions: Sequence[Condition | Contrast], *, labelled: bool
) -> None:
    """Draw one model's effects.

    Args:
        ax: the panel.
        effects: rows of the effects table, one a condition.
        conditions: in the order of rows; those that the model lacks stay empty.
        labelled: whether the rows' labels are wanted.
    """
    places = {condition.name: place for place, condition in enumerate(conditions)}
    for row in effects.filter(pl.col("effect").is_finite()).iter_rows(named=True):
        place = places[row["condition"]]
        condition = conditions[place]
        if len(row["per_seed"]) > 1 and not isinstance(condition, Contrast):
            ax.plot(
                row["per_seed"], [place] * len(row["per_seed"]), linestyle="none", marker="|",
                color=GREY, markersize=9, zorder=1.8,
            )  # fmt: skip
        interval_dot(ax, place, row["effect"], row["low"], row["high"], colour=colour_of(condition))
    zero_line(ax, horizontal=False)
    contrasts = [condition.name for condition in conditions if isinstance(condition, Contrast)]
    own = effects.filter(~pl.col("condition").is_in(contrasts))
    largest = own.sort("n", "condition", descending=[True, False]).row(0, named=True)
    note(ax, f"{largest['n']:,} items, {100 * largest['baseline']:.0f}% right at baseline")
    labels = [condition.label for condition in conditions] if labelled else []
    ax.set_yticks(range(len(conditions)), labels)
    ax.set_ylim(len(conditions) - 0.4, -0.6)
    ax.set_xlabel("change in accuracy, pp")
    ax.tick_params(axis="y", length=0)


def effect_keys() -> list[Artist]:
    """The key to `draw_effects`."""
    dot = dot_key("all items, 95% interval", DARK_GREY)
    return [dot, dot_key("single random draws", GREY, marker="|")]

"""Effects of an intervention as rows of dots: one row a condition."""

from collections.abc import Callable, Sequence

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from vrp.plots.conditions import parse_condition
from vrp.plots.panels import dot_key, interval_dot, note, zero_line
from vrp.plots.style import CONDITION_COLOURS, DARK_GREY, GREEN, GREY


def draw_effects(
    ax: Axes,
    effects: pl.DataFrame,
    names: Sequence[str],
    label: Callable[[str], str],
    *,
    labelled: bool,
) -> None:
    """Draw one model's effects.

    Args:
        ax: the panel.
        effects: rows of the effects table, one a condition.
        names: conditions in the order of rows; those that the model lacks stay empty.
        label: condition → words.
        labelled: whether the rows' labels are wanted.
    """
    for row in effects.filter(pl.col("effect").is_finite()).iter_rows(named=True):
        place = names.index(row["condition"])
        if len(row["per_seed"]) > 1 and parse_condition(row["condition"]).kind != "contrast":
            ax.plot(
                row["per_seed"], [place] * len(row["per_seed"]), linestyle="none", marker="|",
                color=GREY, markersize=9, zorder=1.8,
            )  # fmt: skip
        interval_dot(
            ax, place, row["effect"], row["low"], row["high"], colour=colour_of(row["condition"])
        )
    zero_line(ax, horizontal=False)
    n, baseline = _largest_run(effects)
    note(ax, f"{n:,} items, {100 * baseline:.0f}% right undisturbed")
    ax.set_yticks(range(len(names)), [label(name) for name in names] if labelled else [])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("change in accuracy, pp")
    ax.tick_params(axis="y", length=0)


def _largest_run(effects: pl.DataFrame) -> tuple[int, float]:
    """Items, and accuracy without the intervention, of the condition with the most items."""
    plain = effects.filter(~pl.col("condition").str.contains(" - "))
    row = plain.sort("n", "condition", descending=[True, False]).row(0, named=True)
    return row["n"], row["baseline"]


def colour_of(condition: str) -> str:
    """The colour of a condition's kind."""
    return CONDITION_COLOURS.get(parse_condition(condition).kind, GREEN)


def effect_keys() -> list[Artist]:
    """The key to `draw_effects`."""
    dot = dot_key("mean over tasks, 95% interval", DARK_GREY)
    return [dot, dot_key("single random draws", GREY, marker="|")]

"""Figures as rows of panels with a title and a key above them, and the marks that panels hold."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from vrp.config.margins import EquivalenceMargins
from vrp.plots.style import DARK_GREY, FAINT, GREY, INK, SMALL, WIDTH
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.captured import NOT_CAPTURED, is_captured

NOT_RUN = "not run"
NO_VALUES = "no finite values"
_MAX_COLUMNS = 3
_TITLE_HEIGHT = 0.36  # inches
_KEY_LINE = 0.2
_MAX_LAYER_TICKS = 8
_MAX_DOTS = 12  # points of a line up to which each has a dot
_LONGEST_NAME = 28  # characters of a model's name that a panel's title has room for


def model_panels(
    study: StudyResults,
    title: str,
    *,
    heights: Sequence[float],
    key_lines: int = 1,
    share_y: bool = False,
    share_x: Literal["none", "column", "all"] = "column",
    y_labels: Sequence[str] = (),
) -> tuple[Figure, list[tuple[ModelResults, list[Axes]]]]:
    """A titled figure, and each model with its column of panels, from top to bottom.

    Columns are named at their top; at most three are side by side.

    Args:
        study: whose models to show; without any there is one panel that says so.
        title: the figure's title.
        heights: inches of each panel of a column, from top to bottom.
        key_lines: lines of key to leave room for under the title.
        share_y: the same vertical scale for all models.
        share_x: panels with the same horizontal scale: those of a model, or all.
        y_labels: vertical axis of each panel of a column, shown at the leftmost ones.
    """
    n_models = len(study.models)
    if n_models == 0:
        figure, axes = panels(title, heights=heights[:1], n_columns=1, key_lines=0)
        not_run(axes[0][0])
        return figure, []
    n_columns = min(n_models, _MAX_COLUMNS)
    n_blocks = math.ceil(n_models / n_columns)
    figure, axes = panels(
        title, heights=list(heights) * n_blocks, n_columns=n_columns, key_lines=key_lines
    )
    columns: list[list[Axes]] = []
    for place in range(n_blocks * n_columns):
        block, column = divmod(place, n_columns)
        found = [axes[block * len(heights) + i][column] for i in range(len(heights))]
        if place < n_models:
            _name_panel(found[0], study.models[place].name)
            columns.append(found)
            for ax, label in zip(found, y_labels if column == 0 else (), strict=False):
                ax.set_ylabel(label)
        else:
            for ax in found:
                ax.set_axis_off()
    _share(columns, share_x=share_x, share_y=share_y)
    return figure, list(zip(study.models, columns, strict=True))


def panels(
    title: str,
    *,
    heights: Sequence[float],
    n_columns: int,
    key_lines: int = 1,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, list[list[Axes]]]:
    """A grid of panels under a title: the figure, and its panels as rows of columns.

    Args:
        title: what is shown.
        heights: inches of each row, its labels included.
        n_columns: panels side by side.
        key_lines: lines of key to leave room for under the title.
        widths: relative widths of the columns.
    """
    header = _TITLE_HEIGHT + _KEY_LINE * key_lines
    height = header + sum(heights)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, 1 - header / height), w_pad=0.06, h_pad=0.05)  # type: ignore[call-arg]
    figure.text(
        0.08 / WIDTH, 1 - 0.1 / height, title,
        fontsize=11, fontweight="bold", ha="left", va="top", in_layout=False,
    )  # fmt: skip
    grid = figure.subplots(
        len(heights), n_columns, squeeze=False,
        height_ratios=list(heights), width_ratios=list(widths) if widths else None,
    )  # fmt: skip
    return figure, [list(row) for row in grid]


def add_key(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a key under the title, left-aligned."""
    height = figure.get_size_inches()[1]
    place = (0.02 / WIDTH, 1 - (_TITLE_HEIGHT - 0.06) / height)
    legend = figure.legend(
        handles=list(handles), loc="upper left", bbox_to_anchor=place,
        ncols=len(handles), columnspacing=1.5, borderaxespad=0.2, handletextpad=0.5,
        labelspacing=0.35,
    )  # fmt: skip
    legend.set_in_layout(False)


def line_key(label: str, colour: str, **style: Any) -> Artist:
    """An entry of a key for a line."""
    return Line2D([], [], color=colour, label=label, **style)


def dot_key(label: str, colour: str, *, marker: str = "o", hollow: bool = False) -> Artist:
    """An entry of a key for a dot."""
    face = "white" if hollow else colour
    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face, linestyle="none", label=label
    )


def area_key(label: str, colour: str, alpha: float = 1.0) -> Artist:
    """An entry of a key for bars and bands."""
    return Patch(facecolor=colour, alpha=alpha, edgecolor="none", label=label)


def chance_key(margins: EquivalenceMargins) -> Artist:
    """An entry of a key for the band of AUROCs that count as chance."""
    low, high = margins.chance
    return area_key(f"{low:g} to {high:g}", FAINT)


def not_run(ax: Axes, reason: str = NOT_RUN) -> None:
    """Say in the panel that there is nothing to show."""
    ax.text(
        0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center", color=GREY,
        fontsize=10, style="italic",
    )  # fmt: skip
    ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    ax.set_ylabel("")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def absence(frame: pl.DataFrame, *columns: str) -> str | None:
    """Reason why a per-item table has no values in these columns; None where it has some."""
    if frame.is_empty():
        return NOT_RUN
    return None if all(is_captured(frame[name]) for name in columns) else NOT_CAPTURED


def note(ax: Axes, text: str) -> None:
    """A line in small type between a panel's name and the panel."""
    ax.annotate(
        text, xy=(0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
        ha="left", va="bottom", fontsize=SMALL, color=DARK_GREY,
    )  # fmt: skip


def ribbon(
    ax: Axes,
    x: ArrayLike,
    centre: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    colour: str,
    **style: Any,
) -> Line2D:
    """A line with its interval as a band; dots too where points are few."""
    places = np.asarray(x)
    marker = {"marker": "o"} if places.size <= _MAX_DOTS else {}
    ax.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
    (line,) = ax.plot(places, centre, color=colour, **{**marker, **style})
    return line


def interval_dot(
    ax: Axes,
    place: float,
    value: float,
    low: float,
    high: float,
    *,
    colour: str,
    horizontal: bool = True,
    hollow: bool = False,
    **style: Any,
) -> Line2D:
    """A dot with its interval as a line; the interval need not hold the value."""
    if math.isfinite(low) and math.isfinite(high):
        draw = ax.hlines if horizontal else ax.vlines
        draw(place, low, high, color=colour, linewidth=1.5, zorder=2)
    x, y = (value, place) if horizontal else (place, value)
    look = {"marker": "o", "markersize": 5.5, "zorder": 3, **style}
    (dot,) = ax.plot(
        [x], [y], linestyle="none", color=colour,
        markerfacecolor="white" if hollow else colour, **look,
    )  # fmt: skip
    return dot


def layer_axis(ax: Axes, n_layers: int, *, label: bool = True) -> None:
    """Ticks at whole decoder layers; without `label`, the panel below names them."""
    ax.set_xticks(range(0, n_layers, math.ceil(n_layers / _MAX_LAYER_TICKS)))
    ax.tick_params(labelbottom=label)
    if label:
        ax.set_xlabel("decoder layer")


def from_zero(axes: Sequence[Axes]) -> None:
    """Start the vertical scale at zero, once everything is drawn (scales may be shared)."""
    for ax in axes:
        ax.set_ylim(bottom=0)


def is_leftmost(ax: Axes) -> bool:
    """Whether a panel is the first of its row, which names the rows of all."""
    place = ax.get_subplotspec()
    return place is not None and place.is_first_col()


def zero_line(ax: Axes, *, at: float = 0.0, horizontal: bool = True, **style: Any) -> None:
    """A reference line."""
    draw = ax.axhline if horizontal else ax.axvline
    draw(at, **{"color": INK, "linewidth": 0.9, "zorder": 1.5, **style})


def reference_band(ax: Axes, low: float, high: float, *, horizontal: bool = True) -> None:
    """A band of values that count as none."""
    draw = ax.axhspan if horizontal else ax.axvspan
    draw(low, high, color=FAINT, alpha=0.6, linewidth=0, zorder=0.5)


def _name_panel(ax: Axes, name: str) -> None:
    # Room for a note between the name and the panel.
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    ax.set_title(short, pad=17)


def _share(columns: Sequence[Sequence[Axes]], *, share_x: str, share_y: bool) -> None:
    first = columns[0]
    for column in columns:
        leader = {"none": None, "column": column[0], "all": first[0]}[share_x]
        for row, ax in enumerate(column):
            if leader is not None and ax is not leader:
                ax.sharex(leader)
            if share_y and ax is not first[row]:
                ax.sharey(first[row])

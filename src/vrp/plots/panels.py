"""Figures as rows of panels with a title and a key above them, and the marks that panels hold."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import ArrayLike

from vrp.config.margins import EquivalenceMargins
from vrp.plots.fitted_layout import FittedLayout, break_lines, measure_of
from vrp.plots.named_rows import Rows
from vrp.plots.style import DARK_GREY, FAINT, INK, size_in_force
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.captured import NOT_CAPTURED, is_captured

NOT_RUN = "not run"
NO_VALUES = "no finite values"
_MARGIN = 0.06  # inches around a title and a key
_MOST_BESIDE = 3  # panels that share the names of rows
_MAX_LAYER_TICKS = 8
_MAX_DOTS = 12  # points of a line up to which each has a dot
_LONGEST_NAME = 40  # characters of a model's name


def model_panels(
    study: StudyResults,
    title: str,
    *,
    heights: Sequence[float],
    share_y: bool = False,
    share_x: Literal["none", "column", "row", "all"] = "column",
    y_labels: Sequence[str] = (),
    rows: Rows | None = None,
) -> tuple[Figure, list[tuple[ModelResults, list[Axes]]]]:
    """A titled figure, and each model with its column of panels, from top to bottom.

    Columns are named at their top. On a page at most three stand side by side; in a column each
    stands below the other, unless they share the names of rows.

    Args:
        study: whose models to show; without any there is one panel that says so.
        title: the figure's title.
        heights: inches of each panel of a model, from top to bottom, as `panels` takes them.
        share_y: the same vertical scale for all models.
        share_x: panels with the same horizontal scale: those of a model (`column`), the same panel
            of all models (`row`), or all.
        y_labels: vertical axis of each panel of a model, shown at the leftmost ones.
        rows: named rows that the last panel of each model has.
    """
    n_models = len(study.models)
    if n_models == 0:
        figure, axes = panels(title, heights=heights[:1], n_columns=1)
        not_run(axes[0][0])
        return figure, []
    beside = size_in_force().side_by_side if rows is None else _MOST_BESIDE
    n_columns = min(n_models, beside)
    n_blocks = math.ceil(n_models / n_columns)
    figure, axes = panels(title, heights=list(heights) * n_blocks, n_columns=n_columns)
    columns: list[list[Axes]] = []
    for place in range(n_blocks * n_columns):
        block, column = divmod(place, n_columns)
        found = [axes[block * len(heights) + i][column] for i in range(len(heights))]
        if place < n_models:
            name_panel(found[0], shortened(study.models[place].name))
            columns.append(found)
            for ax, label in zip(found, y_labels if column == 0 else (), strict=False):
                ax.set_ylabel(label)
            if rows is not None:
                set_rows(found[-1], rows)
        else:
            for ax in found:
                ax.set_axis_off()
    _share(columns, share_x=share_x, share_y=share_y)
    return figure, list(zip(study.models, columns, strict=True))


def panel_width(n_models: int) -> float:
    """Inches that a panel of one of so many models has at most, its labels included."""
    size = size_in_force()
    return size.inches / min(max(n_models, 1), size.side_by_side)


def panels(
    title: str, *, heights: Sequence[float], n_columns: int, widths: Sequence[float] | None = None
) -> tuple[Figure, list[list[Axes]]]:
    """A grid of panels under a title: the figure, and its panels as rows of columns.

    The width is that of the style in force.

    Args:
        title: what is shown.
        heights: inches of each row, its labels included, in a figure of nine-point type; the
            style says how much of them it takes.
        n_columns: panels side by side.
        widths: relative widths of the columns.
    """
    size = size_in_force()
    layout = FittedLayout(w_pad=0.04, h_pad=0.04)
    figure = Figure(figsize=(size.inches, size.height * sum(heights)), layout=layout)
    _add_title(figure, layout, title)
    grid = figure.subplots(
        len(heights), n_columns, squeeze=False,
        height_ratios=list(heights), width_ratios=list(widths) if widths else None,
    )  # fmt: skip
    return figure, [list(row) for row in grid]


def panel_row(title: str, *, height: float, n: int) -> tuple[Figure, list[Axes]]:
    """Panels that stand side by side on a page, and below each other in a column.

    Args:
        title: what is shown.
        height: inches of each, as `panels` takes them.
        n: number of panels.
    """
    n_columns = min(n, size_in_force().side_by_side)
    n_rows = math.ceil(n / n_columns)
    figure, axes = panels(title, heights=[height] * n_rows, n_columns=n_columns)
    every = [ax for row in axes for ax in row]
    for ax in every[n:]:
        ax.set_axis_off()
    return figure, every[:n]


def _add_title(figure: Figure, layout: FittedLayout, title: str) -> None:
    text = figure.text(
        0, 1, title, fontsize="medium", ha="left", va="top", in_layout=False,
        transform=_from_top(figure, _MARGIN, _MARGIN),
    )  # fmt: skip
    text.set_fontsize(mpl.rcParams["figure.titlesize"])
    text.set_fontweight(mpl.rcParams["figure.titleweight"])
    width = (figure.get_figwidth() - 2 * _MARGIN) * figure.dpi
    text.set_text(break_lines(title, width, measure_of(text)))
    layout.make_room(figure, text.get_window_extent().height / figure.dpi + 2 * _MARGIN)


def _from_top(figure: Figure, right: float, down: float) -> Transform:
    """Inches from the upper left corner, wherever that comes to be."""
    return figure.transFigure + ScaledTranslation(right, -down, figure.dpi_scale_trans)


def add_key(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a key under the title, in as many columns as there is room for."""
    layout = figure.get_layout_engine()
    if not handles or not isinstance(layout, FittedLayout):
        return
    for n_columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=list(handles), loc="upper left", bbox_to_anchor=(0, 1), ncols=n_columns,
            bbox_transform=_from_top(figure, 0, layout.header - _MARGIN),
            columnspacing=1.3, borderaxespad=0, borderpad=0.4, handletextpad=0.5, labelspacing=0.3,
        )  # fmt: skip
        legend.set_in_layout(False)
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or n_columns == 1:
            break
        legend.remove()
    layout.make_room(figure, box.height / figure.dpi)


def set_rows(ax: Axes, rows: Rows) -> None:
    """Give a panel rows, named where it is the leftmost one."""
    ax.set_yticks(rows.places, list(rows.names))
    ax.set_ylim(rows.end + 0.1, -0.6)
    ax.tick_params(axis="y", length=0, labelleft=is_leftmost(ax))
    ax.grid(visible=False, axis="y")


def name_panel(ax: Axes, name: str) -> None:
    """Write a panel's name above it."""
    _put_above(ax, name, fontsize=size_in_force().name, fontweight="bold")


def note(ax: Axes, text: str) -> None:
    """Write a line between a panel's name and the panel."""
    _put_above(ax, text, color=DARK_GREY)


def counted(n: int, images: int, what: str = "items") -> str:
    """Numbers of items and of images in words, for a note."""
    return f"{n:,} {what}, {images:,} images"


def counts_of(marks: pl.DataFrame, what: str = "items") -> str:
    """Largest numbers of items and of images of any mark, in words, for a note."""
    n, images = marks.select(pl.col("n", "images").max()).row(0)
    return counted(n, images, what)


def _put_above(ax: Axes, text: str, **style: Any) -> None:
    layout = ax.figure.get_layout_engine() if isinstance(ax.figure, Figure) else None
    if isinstance(layout, FittedLayout):
        layout.put_above(ax, text, **style)


def shortened(name: str) -> str:
    """A model's name as figures show it: a very long one is cut."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def line_key(label: str, colour: str, **style: Any) -> Artist:
    """An entry of a key for a line."""
    return Line2D([], [], color=colour, label=label, **style)


def dot_key(label: str, colour: str, *, marker: str = "o", hollow: bool = False) -> Artist:
    """An entry of a key for a dot."""
    face = "white" if hollow else colour
    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face, linestyle="none", label=label
    )


def area_key(label: str, colour: str, alpha: float = 1.0, *, hatch: str | None = None) -> Artist:
    """An entry of a key for bars and bands."""
    edge = "white" if hatch else "none"
    return Patch(facecolor=colour, alpha=alpha, edgecolor=edge, hatch=hatch, label=label)


def chance_key(margins: EquivalenceMargins) -> Artist:
    """An entry of a key for the band of AUROCs that count as chance."""
    low, high = margins.chance
    return area_key(f"{low:g} to {high:g}", FAINT)


def not_run(ax: Axes, reason: str = NOT_RUN) -> None:
    """Say in the panel that there is nothing to show; rows that it names keep their names."""
    ax.text(
        0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center", color=DARK_GREY,
        style="italic",
    )  # fmt: skip
    names_rows = is_leftmost(ax) and isinstance(ax.yaxis.get_major_locator(), FixedLocator)
    ax.tick_params(left=False, bottom=False, labelleft=names_rows, labelbottom=False)
    ax.set_ylabel("")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def absence(frame: pl.DataFrame, *columns: str) -> str | None:
    """Reason why a per-item table has no values in these columns; None where it has some."""
    if frame.is_empty():
        return NOT_RUN
    return None if all(is_captured(frame[name]) for name in columns) else NOT_CAPTURED


def ribbon(
    ax: Axes,
    x: ArrayLike,
    centre: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    colour: str,
    alpha: float = 0.18,
    **style: Any,
) -> Line2D:
    """A line with its interval as a band, `alpha` opaque; dots too where points are few."""
    places = np.asarray(x)
    marker = {"marker": "o"} if places.size <= _MAX_DOTS else {}
    bottom, top = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    ax.fill_between(places, bottom, top, color=colour, alpha=alpha, linewidth=0)
    (line,) = ax.plot(places, np.asarray(centre), color=colour, **{**marker, **style})
    return line


def marks_ribbon(ax: Axes, marks: pl.DataFrame, along: str, **look: Any) -> Line2D:
    """The ribbon of marks with an interval, along one of their columns; `look` as of `ribbon`."""
    return ribbon(ax, marks[along], marks["value"], marks["low"], marks["high"], **look)


def interval_dot(
    ax: Axes,
    place: float,
    value: float,
    low: float | None,
    high: float | None,
    *,
    colour: str,
    horizontal: bool = True,
    hollow: bool = False,
    **style: Any,
) -> Line2D:
    """A dot with its interval, where there is one, as a line; it need not hold the value."""
    if low is not None and high is not None:
        draw = ax.hlines if horizontal else ax.vlines
        draw(place, low, high, color=colour, linewidth=mpl.rcParams["lines.linewidth"], zorder=2)
    x, y = (value, place) if horizontal else (place, value)
    look = {"marker": "o", "zorder": 3, **style}
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


def _share(columns: Sequence[Sequence[Axes]], *, share_x: str, share_y: bool) -> None:
    first = columns[0]
    for column in columns:
        for row, ax in enumerate(column):
            leaders = {"none": None, "column": column[0], "row": first[row], "all": first[0]}
            leader = leaders[share_x]
            if leader is not None and ax is not leader:
                ax.sharex(leader)
            if share_y and ax is not first[row]:
                ax.sharey(first[row])

"""Figure of two models compared on the same questions: accuracy by task, AUROC by signal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.errors import InputError
from vrp.estimates.paired_comparison import IDENTICAL, WORDS, Difference, PairedComparison
from vrp.estimates.verdicts import Standing
from vrp.plots.panels import (
    add_key,
    area_key,
    dot_key,
    interval_dot,
    panels,
    reference_band,
    zero_line,
)
from vrp.plots.style import (
    BLUE,
    DARK_GREY,
    FAINT,
    GREEN,
    GREY,
    VERMILLION,
    house_style,
    save_figure,
    size_in_force,
    with_symbols,
)
from vrp.tables.atomic_files import atomic_write

_FORMATS = (".svg", ".pdf", ".png")
_ROW_INCHES = 0.24
_AROUND_ROWS = 0.75  # inches, for a panel's name and its scale
_COLOURS = {
    WORDS[Standing.ABOVE]: BLUE,
    WORDS[Standing.BELOW]: VERMILLION,
    WORDS[Standing.EQUIVALENT]: GREEN,
    IDENTICAL: GREEN,
}
"""Verdict that is settled → colour; the others are hollow and grey."""


def draw(found: PairedComparison, path: Path) -> None:
    """Draw both panels into a file.

    Raises:
        InputError: a file name of another kind, or the folder cannot be written.
    """
    if path.suffix not in _FORMATS:
        raise InputError(f"{path}: a figure is .svg, .pdf or .png")
    with house_style():
        figure = comparison_figure(found)
        with atomic_write(path) as part:
            save_figure(figure, part, path.suffix[1:], dpi=200)


def comparison_figure(found: PairedComparison) -> Figure:
    """One panel for accuracy, one for AUROCs where there are any."""
    of_panels = [
        (found.accuracies, found.margin_pp, "accuracy, B − A, pp"),
        (found.aurocs, found.margin_auroc, "AUROC within strata, B − A"),
    ]
    of_panels = [one for one in of_panels if one[0]]
    figure, axes = panels(
        f"A: {found.first}, B: {found.second}, {found.n_items:,} questions on "
        f"{found.n_images:,} images",
        heights=[_AROUND_ROWS + _ROW_INCHES * len(rows) for rows, _, _ in of_panels],
        n_columns=1,
    )
    for (ax,), (rows, margin, label) in zip(axes, of_panels, strict=True):
        reference_band(ax, -margin, margin, horizontal=False)
        _draw_rows(ax, rows, label)
    settled: dict[str, list[str]] = {}
    for name, colour in _COLOURS.items():
        settled.setdefault(colour, []).append(name)
    add_key(figure, [
        *(dot_key(", ".join(names), colour) for colour, names in settled.items()),
        dot_key("undecided, too few", GREY, hollow=True),
        area_key("counts as none", FAINT, 0.6),
    ])  # fmt: skip
    return figure


def _at_right(ax: Axes, text: str, height: float, of: str, **style: Any) -> None:
    ax.annotate(
        text, xy=(1, height), xycoords=("axes fraction", of), xytext=(6, 0),
        textcoords="offset points", fontsize=size_in_force().text, color=DARK_GREY,
        annotation_clip=False, **style,
    )  # fmt: skip


def _draw_rows(ax: Axes, rows: Sequence[Difference], label: str) -> None:
    zero_line(ax, horizontal=False)
    for place, row in enumerate(rows):
        interval_dot(
            ax, place, row.gap.value, row.gap.low, row.gap.high,
            colour=_COLOURS.get(row.verdict, GREY), hollow=row.verdict not in _COLOURS,
        )  # fmt: skip
        _at_right(ax, f"{row.gap.n:,} on {row.gap.n_groups:,}", place, "data", va="center")
    _at_right(ax, "questions\non images", 1, "axes fraction", va="bottom")
    ax.set_yticks(range(len(rows)), [with_symbols(row.label) for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(label)
    ax.tick_params(axis="y", length=0)

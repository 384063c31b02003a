"""Rows of panels with names: broken into lines, and placed so that the lines have room."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from vrp.plots.fitted_layout import break_lines, measure_of
from vrp.plots.style import size_in_force

ROW = 0.29
"""Inches, as figures ask for, between two rows."""


class Rows(NamedTuple):
    """Named rows of panels; one whose name takes several lines is higher than the others."""

    names: tuple[str, ...]
    """Broken into lines, so that they leave room for the panels beside them."""
    places: tuple[float, ...]
    """Vertical place of each; those of rows of one line are whole numbers apart."""
    end: float
    """Place below the last row."""
    height: float
    """Inches, as `panels` takes them, of a panel with these rows and an axis below."""


def rows_of(names: Sequence[str], *, row: float = ROW, share: float | None = None) -> Rows:
    """Break the names of rows, and place the rows.

    Args:
        names: one a row, the first one at the top.
        row: inches, as `panels` takes them, between rows of one line.
        share: of the figure's width that names take at most; None: as the style says.
    """
    size = size_in_force()
    figure = Figure(figsize=(size.inches, 1))
    measure = measure_of(figure.text(0, 0, ""))
    width = (share or size.row_names) * figure.bbox.width
    broken = tuple(break_lines(name, width, measure) for name in names)
    # What one more line takes, of the distance between two rows.
    line = 1.2 * size.text / 72 / size.height / row
    places, end = [], -0.5
    for name in broken:
        height = 1 + line * name.count("\n")
        places.append(end + height / 2)
        end += height
    # A name and a note above the panel, ticks and a label below, and what is around them.
    around = (1.25 * size.name + 4 * size.text + 18) / 72 / size.height
    return Rows(broken, tuple(places), end, row * max(end + 0.5, 3) + around)

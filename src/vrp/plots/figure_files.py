"""A figure's files: its drawing in several formats, and its numbers."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from vrp.plots.figures import FigureSpec
from vrp.plots.style import Width, house_style, save_figure
from vrp.study.results import StudyResults
from vrp.tables.atomic_files import atomic_write, write_text

NUMBERS = ".csv"
"""Ending of the file that holds a figure's numbers."""


def write_figure(
    spec: FigureSpec,
    study: StudyResults,
    paths: Sequence[Path],
    *,
    dpi: int,
    width: Width = "page",
) -> None:
    """Write a figure's files, each whole or not at all.

    Args:
        spec: the figure.
        study: the tables.
        paths: `.svg`, `.png` and `.pdf` are drawings, `.csv` the numbers, which the figure must
            have.
        dpi: dots an inch of PNG files.
        width: of the drawings.
    """
    drawings = [path for path in paths if path.suffix != NUMBERS]
    if drawings:
        with house_style(width):
            figure = spec.draw(study)
            # One layout serves all formats; each save would work it out again.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            for path in drawings:
                with atomic_write(path) as part:
                    save_figure(figure, part, path.suffix[1:], dpi=dpi)
    for path in paths:
        if path.suffix == NUMBERS and spec.data is not None:
            write_text(path, csv_text(spec.data(study)))


def csv_text(marks: pl.DataFrame) -> str:
    """Numbers of a figure as CSV: all their digits, nothing where there is no value."""
    return marks.fill_nan(None).write_csv()

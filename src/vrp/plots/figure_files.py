"""A figure's files: its drawing in several formats, and its numbers."""

from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from vrp.errors import InputError, unknown_name
from vrp.plots.figures import FigureSpec, load_figures
from vrp.plots.style import Width, house_style, save_figure
from vrp.study.graph import FIGURES
from vrp.study.results import StudyResults
from vrp.study.study_folder import open_study_folder, read_snapshot
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


def draw_study_folder(
    folder: Path,
    output: Path,
    *,
    names: Collection[str] = (),
    formats: Collection[str] = ("pdf",),
    width: Width = "page",
    dpi: int | None = None,
) -> list[Path]:
    """Draw figures of a study's folder into another folder.

    Args:
        folder: of the study, such as `results/demo`.
        output: made where it is not there.
        names: of the figures; none: all.
        formats: `svg`, `png`, `pdf`, and `csv` for the numbers.
        width: of the drawings.
        dpi: dots an inch of PNG files; None: as the study's configuration says.

    Returns:
        The files, in the figures' reading order.

    Raises:
        InputError: no such figure, no study in the folder, a broken table, or `output` is where
            the study keeps its own figures.
    """
    if dpi is None:
        dpi = read_snapshot(folder).figures.dpi
    if dpi < 1:
        raise InputError(f"{dpi} dots an inch: give at least 1, such as 300")
    study = open_study_folder(folder)
    specs = {spec.name: spec for spec in load_figures()}
    for name in names:
        if name not in specs:
            raise InputError(unknown_name("figure", name, sorted(specs)))
    own = (folder / FIGURES.path).parent
    if output.resolve() == own.resolve():
        raise InputError(f"{output}: is where the study keeps its figures; give another folder")
    written = []
    for spec in specs.values():
        if names and spec.name not in names:
            continue
        kinds = [kind for kind in formats if kind != "csv" or spec.data is not None]
        paths = [output / f"{spec.name}.{kind}" for kind in kinds]
        write_figure(spec, study, paths, dpi=dpi, width=width)
        written += paths
    return written


def csv_text(marks: pl.DataFrame) -> str:
    """Numbers of a figure as CSV: all their digits, nothing where there is no value."""
    return marks.fill_nan(None).write_csv()

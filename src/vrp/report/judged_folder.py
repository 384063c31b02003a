"""The files that `vrp judge` writes: numbers as JSON and CSV, figures, and a page."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from vrp.estimates.judged_confidences import JudgedConfidences
from vrp.plots.judged_confidences import FIGURES, JudgedFigure
from vrp.plots.style import house_style, save_figure
from vrp.report.figures import Figure, Link, svg_uri
from vrp.report.judged_confidences import as_json, as_tables
from vrp.report.judged_page import render_page
from vrp.tables.atomic_files import atomic_write, write_text

_FORMATS = ("svg", "pdf")


def write_folder(found: JudgedConfidences, folder: Path) -> Path:
    """Write all files into a folder, which is made where it is not there.

    Returns:
        the page, which is written last.

    Raises:
        InputError: the folder cannot be written.
    """
    tables = as_tables(found)
    for name, table in tables.items():
        with atomic_write(folder / f"{name}.csv") as part:
            table.fill_nan(None).write_csv(part)
    write_text(folder / "judge.json", as_json(found))
    figures = [_drawn(figure, found, tables, folder) for figure in FIGURES]
    page = folder / "report.html"
    write_text(page, render_page(found, figures))
    return page


def _drawn(
    spec: JudgedFigure, found: JudgedConfidences, tables: Mapping[str, pl.DataFrame], folder: Path
) -> Figure:
    paths = {kind: folder / f"{spec.name}.{kind}" for kind in _FORMATS}
    with house_style():
        figure = spec.draw(found, tables)
        for kind, path in paths.items():
            with atomic_write(path) as part:
                save_figure(figure, part, kind, dpi=200)
    files = (
        *(Link(f"{name}.csv", f"{name}.csv") for name in spec.numbers),
        *(Link(kind.upper(), path.name) for kind, path in paths.items()),
    )
    return Figure(
        spec.name, spec.title, spec.caption, spec.finding(found), svg_uri(paths["svg"]), files
    )

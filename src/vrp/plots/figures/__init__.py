"""Figures of a study: every module of this package is one, and extensions register more.

A module's name is the figure's; it holds `ORDER`, `TITLE`, `CAPTION`, `TABLES`, `data` and `draw`,
which are what `FigureSpec` says. Naming the figures imports none of them: a workflow can list its
outputs without matplotlib.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrp.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from vrp.study.results import StudyResults
    from vrp.tables.schema import TableSchema


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure: its texts, the tables that it reads, and the function that draws it."""

    name: str
    """Stem of its files."""
    order: int
    """Position in a report, ascending."""
    title: str
    """Title, in one line."""
    caption: str
    """Caption, in one or two sentences."""
    tables: "tuple[TableSchema, ...]"
    """The tables, or those of their columns, that it reads."""
    draw: "Callable[[StudyResults], Figure]"
    """Draws it from a study's results, in the width of the style that is in force; a panel without
    data says `not run`."""
    data: "Callable[[StudyResults], pl.DataFrame] | None" = None
    """The numbers that it shows, one row a mark, from which it is drawn: they stand beside it as
    CSV. None: nothing stands beside it."""


_MODULES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
_REGISTERED: dict[str, FigureSpec] = {}


def register_figure(figure: FigureSpec) -> None:
    """Add a figure to those that every study draws and reports.

    Raises:
        InputError: there is a figure of this name, or its name is no file's stem.
    """
    if not figure.name.isidentifier():
        raise InputError(f"figure {figure.name!r}: use letters, digits and _ only")
    if figure.name in figure_names():
        raise InputError(f"figure {figure.name!r} exists already; give yours another name")
    _REGISTERED[figure.name] = figure


def figure_names() -> tuple[str, ...]:
    """Names of all figures, in alphabetical order."""
    return tuple(sorted((*_MODULES, *_REGISTERED)))


def has_data(name: str) -> bool:
    """Whether numbers stand beside the figure of a name."""
    return name in _MODULES or _REGISTERED[name].data is not None


def load_figures() -> tuple[FigureSpec, ...]:
    """All figures, in the order in which a report shows them."""
    figures = (*map(_from_module, _MODULES), *_REGISTERED.values())
    return tuple(sorted(figures, key=lambda figure: (figure.order, figure.name)))


def _from_module(name: str) -> FigureSpec:
    module = importlib.import_module(f"{__name__}.{name}")
    return FigureSpec(
        name=name,
        order=module.ORDER,
        title=module.TITLE,
        caption=module.CAPTION,
        tables=module.TABLES,
        draw=module.draw,
        data=module.data,
    )

"""Every module of this package is one figure; a new figure is one new module and nothing else.

Naming the figures imports none of them: a workflow can list its outputs without matplotlib.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vrp.plots.study_tables import StudyTables


class FigureModule(Protocol):
    """What a module of this package holds."""

    NAME: str
    """The module's own name, which is also the file's stem."""
    ORDER: int
    """Place in a report, ascending."""
    TITLE: str
    """What is shown, in one line."""
    CAPTION: str
    """How to read it, in one or two sentences."""

    def draw(self, study: "StudyTables") -> "Figure":
        """Draw the figure; what a study did not run is said in its panel."""
        ...


FIGURE_NAMES: tuple[str, ...] = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__))
)
"""Names of all figures, in alphabetical order."""


def load_figures() -> tuple[FigureModule, ...]:
    """Import all figures, in the order in which a report shows them."""
    modules = [importlib.import_module(f"{__name__}.{name}") for name in FIGURE_NAMES]
    figures = [cast(FigureModule, module) for module in modules]
    return tuple(sorted(figures, key=lambda figure: (figure.ORDER, figure.NAME)))

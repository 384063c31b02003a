from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from synthetic_study import SyntheticStudy, write_synthetic_study

from vrp.plots.figures import FigureSpec, figure_names, load_figures
from vrp.plots.style import Width, house_style
from vrp.study.results import StudyResults


@pytest.fixture(scope="session")
def study_files(tmp_path_factory) -> SyntheticStudy:
    return write_synthetic_study(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def study(study_files) -> StudyResults:
    return study_files.results()


@pytest.fixture(scope="session")
def modules() -> dict[str, FigureSpec]:
    return {module.name: module for module in load_figures()}


@pytest.fixture(scope="session")
def figure_of(study, modules) -> Callable[..., Figure]:
    """Name and width → the figure of the synthetic study, laid out; drawn once."""
    drawn: dict[tuple[str, Width], Figure] = {}

    def figure(name: str, width: Width = "page") -> Figure:
        if (name, width) not in drawn:
            with house_style(width):
                drawn[name, width] = modules[name].draw(study)
                drawn[name, width].draw_without_rendering()
        return drawn[name, width]

    return figure


@pytest.fixture(params=figure_names())
def name(request) -> str:
    """Every figure's name."""
    return request.param

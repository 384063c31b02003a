"""Figures of a study that captured nothing but answers: each is drawn, and says what it lacks."""

import pytest
from matplotlib.text import Text
from synthetic_study import write_synthetic_study

from vrp.plots.figures import load_figures
from vrp.plots.style import house_style
from vrp.tables.captured import NOT_CAPTURED

pytestmark = pytest.mark.slow

# Figure → panels a model whose values only a capture could give.
PANELS = {
    "entropy_by_layer": 2, "head_map": 2, "lens_margins": 2,
    "contributions": 1, "residual_update": 1, "specification_curve": 1,
    "signal_densities": 3,
}  # fmt: skip
MODULES = {module.name: module for module in load_figures()}


def read(folder, capture):
    study = write_synthetic_study(folder, models=("alpha", "beta"), capture=capture)
    return study.results()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return read(tmp_path_factory.mktemp("bare"), ())


def texts_of(name, study):
    with house_style():
        figure = MODULES[name].draw(study)
        figure.draw_without_rendering()
    return figure, [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_it_says_what_was_not_captured_and_draws_the_rest(name, bare):
    figure, texts = texts_of(name, bare)
    assert texts.count(NOT_CAPTURED) == 2 * PANELS.get(name, 0)
    panels = [ax for ax in figure.axes if ax.axison]
    if name in PANELS:
        assert not [mark for ax in panels for mark in (*ax.lines, *ax.images, *ax.collections)]


def test_no_curve_stands_for_a_signal_that_is_not_there(bare):
    _, texts = texts_of("risk_coverage", bare)
    assert not any("spatial entropy" in text or "decision margin" in text for text in texts)
    assert any("self-consistency" in text for text in texts)
    _, texts = texts_of("auroc_by_signal", bare)
    assert not any("of the last layer" in text or "cluster count" in text for text in texts)
    assert "logit entropy" in texts


def test_half_of_the_heads_is_drawn(tmp_path):
    study = read(tmp_path, ("contributions",))
    figure, texts = texts_of("head_map", study)
    assert texts.count(NOT_CAPTURED) == 2
    assert sum(len(ax.images) for ax in figure.axes if ax.get_label() != "<colorbar>") == 2

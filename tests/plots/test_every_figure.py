"""What holds for every figure: it is registered, filled, laid out well, and never fails."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from vrp.plots.figures import figure_names
from vrp.plots.panels import NOT_RUN
from vrp.plots.style import WIDTH, house_style
from vrp.study import digests
from vrp.study.results import ModelResults, StudyResults

pytestmark = pytest.mark.slow


def shown_texts(figure):
    """Text → its box in pixels, of every text that is drawn."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                slack = 1e-9 * (high - low)
                if not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {tick.label1, tick.label2}
    found = {}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            found[text] = text.get_window_extent(renderer)
    return found


def test_naming_the_figures_imports_no_matplotlib():
    code = (
        "import sys; from vrp.plots.figures import figure_names; "
        "assert len(figure_names()) >= 15; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_say_what_they_are(modules):
    assert tuple(sorted(modules)) == figure_names()
    assert len({module.order for module in modules.values()}) == len(modules)
    assert len({module.title for module in modules.values()}) == len(modules)
    for module in modules.values():
        assert module.caption.endswith(".")


def test_figures_come_in_reading_order(modules):
    orders = [module.order for module in modules.values()]
    assert orders == sorted(orders)


def test_a_figure_is_part_of_the_stages_that_show_it_and_of_no_other():
    drawn = {f"vrp.plots.figures.{name}:draw" for name in figure_names()}
    assert drawn <= digests.stage_definitions("figures").keys()
    for stage in ("extract", "metrics", "probes", "effects"):
        others = digests.stage_definitions(stage)
        assert not any(name.startswith("vrp.plots") for name in others)


def test_it_has_a_panel_a_model_and_its_title(name, figure_of, modules, study):
    figure = figure_of(name)
    texts = {text.get_text() for text in shown_texts(figure)}
    assert modules[name].title in texts
    assert {model.name for model in study.models} <= texts
    assert NOT_RUN not in texts
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    for ax in panels:
        marks = [*ax.lines, *ax.patches, *ax.images, *ax.collections]
        assert len(marks) >= 2
    assert figure.get_size_inches()[0] == WIDTH


def test_it_reads_no_more_than_it_declares(name, modules, study_files):
    study = study_files.results()
    with house_style():
        modules[name].draw(study)
    read = {key for results in (study, *study.models) for key in results._frames}
    declared = {(schema.name, *schema.columns.names) for schema in modules[name].tables}
    assert read <= declared


def test_no_text_is_cut_off_or_lies_on_another(name, figure_of):
    figure = figure_of(name)
    boxes = shown_texts(figure)
    page = figure.bbox
    for text, box in boxes.items():
        inside = Bbox.from_extents(page.x0 - 1, page.y0 - 1, page.x1 + 1, page.y1 + 1)
        assert inside.contains(box.x0, box.y0), text.get_text()
        assert inside.contains(box.x1, box.y1), text.get_text()
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        # A box is as high as the font, its ink is not: lines may share a pixel or two.
        assert width < 1 or height < 3, (one.get_text(), other.get_text())


def test_keys_lie_beside_the_panels(name, figure_of):
    figure = figure_of(name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    for legend in legends:
        box = legend.get_window_extent(renderer)
        for ax in figure.axes:
            panel = ax.get_window_extent(renderer)
            assert not Bbox.intersection(box, panel), legend


@pytest.mark.parametrize("n_models", [0, 1, 4])
def test_what_was_not_run_is_said(name, modules, n_models):
    study = StudyResults(models=tuple(ModelResults(name=f"m{i}") for i in range(n_models)))
    with house_style():
        figure = modules[name].draw(study)
        figure.draw_without_rendering()
    said = [text.get_text() for text in shown_texts(figure)]
    assert said.count(NOT_RUN) >= max(1, n_models) or name == "accuracy_by_task"
    assert NOT_RUN in said


@pytest.mark.parametrize("name", sorted({*figure_names()} - {"accuracy_by_task"}))
def test_a_model_that_was_not_run_leaves_the_others_as_they_are(name, modules, study, figure_of):
    with_gap = replace(study, models=(study.models[0], ModelResults(name="nothing")))
    with house_style():
        figure = modules[name].draw(with_gap)
        figure.draw_without_rendering()
    assert NOT_RUN in [text.get_text() for text in shown_texts(figure)]
    np.testing.assert_allclose(values_in(figure.axes[0]), values_in(figure_of(name).axes[0]))


def values_in(ax):
    """Horizontal places of all points, sorted: rows may change their order, values may not."""
    return np.sort(
        np.concatenate([np.asarray(line.get_xdata(), float) for line in ax.lines] or [[]])
    )


def test_a_very_long_model_name_is_cut(modules):
    study = StudyResults(models=tuple(ModelResults(name=f"{i}{'x' * 60}") for i in range(3)))
    with house_style():
        figure = modules["contributions"].draw(study)
        figure.draw_without_rendering()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [title[:3] for title in titles] == ["0xx", "1xx", "2xx"]
    boxes = [box for text, box in shown_texts(figure).items() if text.get_text() in titles]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))

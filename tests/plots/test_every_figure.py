"""What holds for every figure: it is registered, filled, laid out well, and never fails."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from polars.testing import assert_frame_equal

from vrp.plots.figure_files import csv_text
from vrp.plots.figures import figure_names
from vrp.plots.panels import NOT_RUN
from vrp.plots.style import SIZES, house_style
from vrp.study import digests
from vrp.study.results import ModelResults, StudyResults

pytestmark = pytest.mark.slow

N_MODELS = 3
ACROSS_MODELS = {"accuracy_by_task", "interaction_forest"}
"""Figures whose panels show all models."""


@pytest.fixture(params=sorted(SIZES))
def width(request):
    """Both widths."""
    return request.param


def plain(text):
    """A text without the breaks of its lines, nor the blanks that they are at."""
    return "".join((text if isinstance(text, str) else text.get_text()).split())


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


@pytest.mark.parametrize("dpi", [72, 150, 300])
def test_text_is_as_wide_at_every_resolution_as_it_was_laid_out(width, dpi):
    with house_style(width):
        inches = []
        for resolution in (mpl.rcParams["figure.dpi"], dpi):
            figure = Figure(dpi=resolution)
            text = figure.text(0, 0, "most attended 30% of patches")
            box = text.get_window_extent(FigureCanvasAgg(figure).get_renderer())
            inches.append(box.width / resolution)
    assert inches[1] == pytest.approx(inches[0], rel=0.005)


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


def test_it_has_a_panel_a_model_and_its_title(name, width, figure_of, modules, study):
    figure = figure_of(name, width)
    texts = {plain(text) for text in shown_texts(figure)}
    assert plain(modules[name].title) in texts
    for model in study.models:
        assert any(plain(model.name) in text for text in texts)
    assert NOT_RUN not in texts
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    for ax in panels:
        marks = [*ax.lines, *ax.patches, *ax.images, *ax.collections]
        assert len(marks) >= 2


def test_it_is_as_wide_as_asked_and_its_type_as_large(name, width, figure_of):
    figure = figure_of(name, width)
    inches, points = {"page": (6.9, 8.0), "column": (3.25, 6.5)}[width]
    assert figure.get_size_inches()[0] == inches
    assert figure.get_size_inches()[1] <= 11.5
    assert min(text.get_fontsize() for text in shown_texts(figure)) >= points


def test_every_panel_says_how_many_items_and_images(name, width, figure_of):
    figure = figure_of(name, width)
    texts = [text.get_text().replace("\n", " ") for text in shown_texts(figure)]
    said = sum(bool(re.search(r"[\d,]+ \w+,? [\d,]+ images", text)) for text in texts)
    assert said >= (2 if name in ACROSS_MODELS else N_MODELS)


def test_it_reads_no_more_than_it_declares(name, modules, study_files):
    study = study_files.results()
    with house_style():
        modules[name].draw(study)
    read = {key for results in (study, *study.models) for key in results._frames}
    declared = {(schema.name, *schema.columns.names) for schema in modules[name].tables}
    assert read <= declared


def test_no_text_is_cut_off_or_lies_on_another(name, width, figure_of):
    assert_legible(figure_of(name, width))


def assert_legible(figure):
    """All text is on the page, and none on other text."""
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


def test_keys_lie_beside_the_panels_and_on_the_page(name, width, figure_of):
    figure = figure_of(name, width)
    renderer = FigureCanvasAgg(figure).get_renderer()
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    for legend in legends:
        box = legend.get_window_extent(renderer)
        assert figure.bbox.x0 - 1 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
        for ax in figure.axes:
            panel = ax.get_window_extent(renderer)
            assert not Bbox.intersection(box, panel), legend


@pytest.mark.parametrize("n_models", [0, 1, 4])
def test_what_was_not_run_is_said(name, width, modules, n_models):
    study = StudyResults(models=tuple(ModelResults(name=f"m{i}") for i in range(n_models)))
    figure = drawn(modules[name], study, width)
    assert_legible(figure)
    assert modules[name].data(study).is_empty()
    said = [text.get_text() for text in shown_texts(figure)]
    assert said.count(NOT_RUN) >= max(1, n_models) or name in ACROSS_MODELS
    assert NOT_RUN in said


def drawn(module, study, width="page"):
    with house_style(width):
        figure = module.draw(study)
        figure.draw_without_rendering()
    return figure


def rows_named(figure):
    """Names of all rows that are shown."""
    return {
        label.get_text()
        for ax in figure.axes
        if ax.yaxis.get_tick_params()["labelleft"] and ax.axison
        for label in ax.get_yticklabels()
    }


@pytest.mark.parametrize("name", sorted({*figure_names()} - ACROSS_MODELS))
@pytest.mark.parametrize("first", [True, False])
def test_a_model_that_was_not_run_leaves_the_others_as_they_are(
    name, modules, study, figure_of, first
):
    nothing = ModelResults(name="nothing")
    models = (nothing, study.models[0]) if first else (study.models[0], nothing)
    figure = drawn(modules[name], replace(study, models=models))
    texts = [text.get_text() for text in shown_texts(figure)]
    assert NOT_RUN in texts
    np.testing.assert_allclose(
        values_in(figure.axes[int(first)]), values_in(figure_of(name).axes[0])
    )
    one = modules[name].data(replace(study, models=study.models[:1]))
    assert modules[name].data(replace(study, models=models)).equals(one)


@pytest.mark.parametrize(
    "name", ["ablation", "auroc_by_signal", "claims", "masking", "specification_curve"]
)  # fmt: skip
def test_rows_keep_their_names_where_the_first_model_was_not_run(name, modules, study):
    alone = drawn(modules[name], replace(study, models=study.models[1:2]))
    beside = drawn(modules[name], replace(study, models=(ModelResults(name="a"), study.models[1])))
    assert rows_named(alone) - {""} <= rows_named(beside)
    assert len(rows_named(beside)) > 5


def values_in(ax):
    """Horizontal places of all points, sorted: rows may change their order, values may not."""
    return np.sort(
        np.concatenate([np.asarray(line.get_xdata(), float) for line in ax.lines] or [[]])
    )


@pytest.mark.parametrize("n_models", [1, 3])
def test_long_names_of_models_are_broken(name, width, modules, study, n_models):
    models = tuple(
        replace(model, name=f"{i}-a-very-long-name-of-a-model-{'x' * 60}")
        for i, model in enumerate(study.models[:n_models])
    )
    assert_legible(drawn(modules[name], replace(study, models=models), width))


def test_the_numbers_of_a_figure_are_the_same_each_time(name, modules, study_files):
    one, two = (modules[name].data(study_files.results()) for _ in range(2))
    assert one.equals(two)
    assert csv_text(one) == csv_text(two)
    assert len(one) > 0
    assert one.columns[0] == "model"
    assert {"value", "n", "images"} <= set(one.columns)
    assert not [
        column for column in one.iter_columns()
        if column.dtype.is_float() and column.is_nan().any()
    ]  # fmt: skip


def test_a_figures_csv_has_all_digits(name, modules, study):
    marks = modules[name].data(study)
    again = pl.read_csv(io.StringIO(csv_text(marks)), schema=marks.schema)
    assert_frame_equal(again, marks, check_exact=True)

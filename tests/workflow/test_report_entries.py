"""What is flagged for `snakemake --report`."""

import sys
from pathlib import Path

import pytest
from snakemake.io import get_flag_value, is_flagged

from vrp.plots.figures import figure_names, load_figures
from vrp.study.graph import FIGURES, METRICS, PROBES, SIGNALS
from vrp.workflow import report_entries
from vrp.workflow.report_entries import with_report_entry


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report_entries._figures.cache_clear()
    yield
    report_entries._figures.cache_clear()


def entry(made, path):
    return get_flag_value(with_report_entry(made, path), "report")


def test_a_figure_is_one_image_and_its_numbers():
    paths = [f"r/figures/masking.{ending}" for ending in ("svg", "png", "pdf", "csv")]
    shown = [path for path in paths if is_flagged(with_report_entry(FIGURES, path), "report")]
    assert shown == ["r/figures/masking.svg", "r/figures/masking.csv"]
    assert [entry(FIGURES, path).labels["as"] for path in shown] == ["image", "numbers"]


def test_where_a_report_is_asked_for_every_figure_has_its_title_and_caption(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake", "--report", "page.html"])
    captions = {figure.name: figure for figure in load_figures()}
    for name in figure_names():
        found = entry(FIGURES, f"r/figures/{name}.svg")
        assert found.labels["figure"] == captions[name].title
        caption = Path(found.caption).read_text(encoding="utf-8")
        assert caption == f"{captions[name].caption}\n"


def test_a_plan_writes_no_captions(tmp_path):
    assert entry(FIGURES, "r/figures/masking.svg").caption is None
    assert list(tmp_path.iterdir()) == []


def test_tables_of_findings_are_shown_and_those_of_items_are_not():
    for made in (METRICS, PROBES):
        found = entry(made, f"r/{made.path}")
        assert (found.category, found.labels["model"]) == ("Tables", "{model}")
    assert not is_flagged(with_report_entry(SIGNALS, f"r/{SIGNALS.path}"), "report")

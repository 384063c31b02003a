"""A study without masking and ablation: effects, figures and report say that they were not run."""

import json

import pytest
from described_data import write_described_data
from page_text import text_of
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, write_synthetic_study

from vrp.config.data import DataConfig
from vrp.config.effects import EffectsConfig
from vrp.config.figures import FiguresConfig
from vrp.config.report import ReportConfig
from vrp.plots.figures import figure_names
from vrp.tables.effects import EFFECTS
from vrp.tables.parquet_files import read_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unmoved")
    made = write_synthetic_study(folder, models=("alpha",))
    made.tables["mask"] = []
    run_job(
        "effects",
        {
            "items": made.items,
            "answers": made.tables["answers"],
            "mask": [],
            "ablate": [],
            "effects": made.effects,
        },
        seed=0,
        effects=EffectsConfig(sign_flips=100),
        **CONDITION_SECTIONS,
        provenance={"study": "synthetic"},
    )
    return made


def test_there_are_no_effects(study):
    assert read_table(study.effects, EFFECTS).is_empty()


def test_every_figure_is_drawn(study, tmp_path):
    run_job(
        "figures",
        {
            "items": study.items,
            "effects": study.effects,
            **study.tables,
            "figures": [tmp_path / f"{name}.svg" for name in figure_names()],
        },
        figures=FiguresConfig(formats=("svg",), dpi=60),
        **CONDITION_SECTIONS,
    )
    assert {path.stem for path in tmp_path.iterdir()} == set(figure_names())


def test_the_report_says_what_was_not_run_and_which_keys_do(study, tmp_path):
    run_job(
        "report",
        {
            **write_described_data(tmp_path, study.items),
            "items": study.items,
            "effects": study.effects,
            **study.tables,
            "figures": [],
            "summary": tmp_path / "summary.json",
            "report": tmp_path / "report.html",
        },
        study="synthetic",
        data=DataConfig(folder=str(tmp_path / "data")),
        report=ReportConfig(overlays=0),
        **CONDITION_SECTIONS,
        provenance={"study": "synthetic", "stage": "report", "versions": "{}"},
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    causal = summary["answers"][3]
    assert causal["short"] == "Not run, for both attended patches and few neurons"
    assert "no patches were hidden in alpha" in causal["sentence"]
    assert "no neurons were ablated in alpha" in causal["sentence"]
    words = " ".join(text_of((tmp_path / "report.html").read_text()).split())
    assert "disables or leaves out ( mask.enabled , ablate.enabled )" in words

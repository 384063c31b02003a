"""What is shown of a study that has run: Snakemake's own report, and `vrp report FOLDER`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_text import text_of
from study_copy import StudyCopy

from vrp.plots.figures import load_figures

VRP = Path(sys.executable).with_name("vrp")
pytestmark = [pytest.mark.slow, pytest.mark.workflow]


@pytest.fixture(scope="module")
def copy(ci_study, tmp_path_factory):
    """A copy that may be changed."""
    folder = tmp_path_factory.mktemp("by-hand") / "copy"
    return StudyCopy(folder, of=ci_study.folder, warm=True)


def report_by_hand(folder, *, cwd):
    return subprocess.run(
        [VRP, "report", str(folder)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_snakemake_s_report_has_an_entry_for_each_figure_and_table(copy):
    ended = copy.run("--configfile", "config/ci.yaml", "--report", "shown.html")
    assert ended.status == 0, ended.output[-3000:]
    for figure in load_figures():
        assert f"Adding {figure.name}.svg" in ended.output
        assert f"Adding {figure.name}.png" not in ended.output
    assert ended.output.count("Adding probes.parquet") == 2
    page = (copy.folder / "shown.html").read_text(encoding="utf-8")
    for figure in load_figures():
        assert json.dumps(figure.title)[1:-1].partition("'")[0] in page
    assert "Tables" in page


def test_the_report_by_hand_is_the_workflow_s(copy, tmp_path):
    study = copy.folder / "results" / "ci"
    whole = {name: (study / name).read_bytes() for name in ("report.html", "summary.json")}
    done = report_by_hand("results/ci", cwd=copy.folder)
    assert done.returncode == 0, done.stderr
    assert {name: (study / name).read_bytes() for name in whole} == whole
    lines = done.stdout.splitlines()
    assert lines[0] == "Study ci: which answers can be trusted?"
    assert lines[-2:] == [
        "Report: results/ci/report.html", "Every answer: results/ci/explorer.html"
    ]  # fmt: skip
    assert len(lines) <= 10
    # From anywhere, and where the folder has been moved to: its data are found around it.
    done = report_by_hand(study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (study / "report.html").read_bytes() == whole["report.html"]


def test_a_study_that_is_not_whole_is_reported_with_what_it_lacks(copy, tmp_path):
    study = tmp_path / "half"
    shutil.copytree(copy.folder / "results" / "ci", study)
    for name in ("probes.parquet", "predictions.parquet", "neurons.parquet", "mask.json"):
        (study / "qwen2_vl" / name).unlink()
    (study / "llava" / "extract.json").unlink()
    (study / "effects.parquet").unlink()
    done = report_by_hand(study, cwd=copy.folder)
    assert done.returncode == 0, done.stderr
    words = text_of((study / "report.html").read_text(encoding="utf-8"))
    assert (
        "This study is incomplete: a job failed or has not run yet. All models: no results of "
        "effects; llava: no results of extract (left out of this report); qwen2_vl: no results of "
        "probes and mask." in words
    )
    summary = json.loads((study / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["models"]) == ["qwen2_vl"]
    assert summary["answers"][2]["short"] == "Not run"

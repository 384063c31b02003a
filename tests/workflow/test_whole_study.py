"""The small study, for real: every stage on the embedded models, from nothing to the report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from study_tables import TABLE_NAMES, differences, schema_of

from vrp.tables.files import read_provenance, read_table
from vrp.tables.items import ITEMS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# Every stage that runs a model, cut otherwise.
ANOTHER_PLAN = (
    'extract={"shards":5,"batch_size":1}',
    'consistency={"k":4,"batch_size":1}',
    'mask={"shards":1,"batch_size":1}',
    'ablate={"shards":3,"batch_size":1}',
)

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def snakemake(folder, *arguments):
    return subprocess.run(
        [BIN / "snakemake", "--cores", "2", "--configfile", "config/ci.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )


def run_study(folder, *arguments):
    for name in ("workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    done = snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout[-5000:]
    return folder / "results" / "ci"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The results folder of the small study."""
    return run_study(tmp_path_factory.mktemp("study"))


def test_the_report_and_the_numbers_are_there(study):
    page = (study / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert json.loads((study / "summary.json").read_text())
    assert len(list((study / "figures").glob("*.svg"))) >= 8


def test_the_counts_are_exact(study):
    items = read_table(study / "items.parquet", ITEMS)
    counts = dict(items["task"].value_counts().iter_rows())
    assert counts == {"existence": 20, "counting": 15, "spatial": 15, "open": 10}


def test_every_table_validates(study):
    found = set()
    for path in study.rglob("*.parquet"):
        assert read_table(path, schema_of(path)).height > 0
        found.add(read_provenance(path)["table"])
    assert found == TABLE_NAMES


def test_every_model_table_names_its_weights(study):
    for path in study.glob("*/*.parquet"):
        assert read_provenance(path)["revision"], path


def test_a_second_run_does_nothing(study):
    done = snakemake(study.parents[1])
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_shards_and_batch_sizes_change_no_number(study, tmp_path):
    other = run_study(tmp_path, "--config", *ANOTHER_PLAN)
    assert list(differences(study, other)) == []

"""The small study, for real: every stage on the embedded models, from nothing to the report."""

import json
from pathlib import Path

import pytest
from study_copy import StudyCopy
from study_tables import TABLE_NAMES, differences, schema_of

from vrp.config.study import load_study
from vrp.source.content import whole_content_of
from vrp.source.definitions import Definition
from vrp.study import digests
from vrp.study.layout import StudyLayout
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.seal import read_provenance

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "ci.yaml"
SMALL_STUDY = ("--cores", "2", "--configfile", "config/ci.yaml")
# Every stage that runs a model, cut otherwise.
ANOTHER_PLAN = (
    'extract={"shards":3,"batch_size":1}',
    'consistency={"k":4,"batch_size":1}',
    'mask={"shards":1,"batch_size":1}',
    'ablate={"shards":3,"batch_size":1}',
    'trace={"shards":1,"batch_size":1}',
)

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


@pytest.fixture(scope="module")
def study(ci_study):
    """The results folder of the small study."""
    return ci_study.results


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


def test_a_second_run_does_nothing(ci_study, tmp_path):
    ended = StudyCopy(tmp_path / "copy", of=ci_study.folder, warm=True).run(*SMALL_STUDY)
    assert ended.status == 0
    assert "Nothing to be done" in ended.output


def test_shards_and_batch_sizes_change_no_number(study, tmp_path):
    other = StudyCopy(tmp_path / "copy", warm=True)
    targets = [
        f"results/ci/llava/{name}"
        for name in ("probes.parquet", "mask.json", "ablate.json", "trace.json")
    ]
    ended = other.run(*targets, *SMALL_STUDY, "--config", *ANOTHER_PLAN, timeout=1800)
    assert ended.status == 0, ended.output[-5000:]
    assert list(differences(study / "llava", other.folder / "results" / "ci" / "llava")) == []


# Every function of the package that a stage runs is part of its digest, or declared not to count.


@pytest.fixture(scope="module")
def ran(ci_study):
    """(stage, model) → definitions that its jobs ran."""
    files = ci_study.ran.iterdir()
    return {tuple(path.name.split(" ")): set(path.read_text().splitlines()) for path in files}


def test_every_stage_was_traced(ran):
    jobs = {(job.stage, job.model) for job in StudyLayout(load_study(CONFIG)).jobs()}
    assert {(stage, *model) for stage, *model in ran} == {
        (stage, model) if model else (stage,) for stage, model in jobs
    }
    assert all(names for names in ran.values())


def named_in_messages(definitions: list[Definition]) -> set[str]:
    """Definitions that texts which do not count name, such as arguments of exceptions."""
    return {target.id for one in definitions for target in whole_content_of(one).targets}


def test_what_a_stage_runs_is_part_of_its_digest(ran):
    study = load_study(CONFIG)
    escaped = {}
    for (stage, *model), names in ran.items():
        reached = digests.reach_stage(stage, digests.chosen_by(study, stage, *model)).definitions
        missing = names - reached.keys()
        escaped[stage, *model] = missing - named_in_messages(list(reached.values()))
    assert {job: names for job, names in escaped.items() if names} == {}

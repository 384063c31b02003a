"""Damaged, foreign, mixed and moved results: no changed number passes a stage, by hand or in a run.

A study has run; each case changes a copy of its results, and gives it back.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from study_copy import StudyCopy
from study_tables import TABLE_NAMES, schema_of

from vrp.config.study import StudyConfig, load_study
from vrp.errors import InputError
from vrp.study.command import run_gather, run_stage
from vrp.study.graph import MADE_BY, STAGE, STAGES
from vrp.study.layout import StudyLayout
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.seal import read_provenance, read_seal

N_FLIPS = 60
RUN = ("--cores", "2", "--configfile", "config/ci.yaml")
RESULTS = Path("results/ci")

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


@pytest.fixture(scope="module")
def finished(ci_study, tmp_path_factory):
    """A checkout in which the study has run."""
    copy = StudyCopy(tmp_path_factory.mktemp("tampered") / "copy", of=ci_study.folder, warm=True)
    shutil.copytree(copy.folder / "results", copy.folder / "kept")
    return copy


@pytest.fixture
def folder(finished, monkeypatch):
    """The checkout, as the working folder; what a test changes in results is taken back."""
    monkeypatch.chdir(finished.folder)
    yield finished.folder
    shutil.rmtree("results")
    shutil.copytree("kept", "results")


@pytest.fixture(scope="module")
def study(finished):
    return load_study(finished.folder / RESULTS / "config.yaml")


def plan(copy, *more):
    """Rule → reasons, of a dry-run."""
    ended = copy.run("-n", *RUN, *more)
    assert ended.status == 0, ended.output[-3000:]
    return ended.output


def planned(output):
    table = output.split("Job stats:")[-1].split("total")[0] if "Job stats:" in output else ""
    return {line.split()[0] for line in table.splitlines() if line[-1:].isdigit()} - {"all"}


def restate(path, **changes):
    """Write a table again, with another provenance and a seal that fits."""
    origin = {key: value for key, value in read_provenance(path).items() if key != "table"}
    schema = schema_of(path)
    write_table(path, schema, read_table(path, schema), provenance=origin | changes)


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", sorted(TABLE_NAMES))
def test_flipped_bits_of_every_table_are_refused(folder, name):
    path = next(
        path
        for path in sorted(RESULTS.rglob("*.parquet"))
        if read_provenance(path)["table"] == name
    )
    schema, written = schema_of(path), path.read_bytes()
    random.seed(name)
    for _ in range(N_FLIPS):
        flip(path, random.randrange(len(written)), random.randrange(8))
        with pytest.raises(InputError, match=path.name):
            read_table(path, schema)
        path.write_bytes(written)


def jobs_and_tables():
    """Every stage with every table that it reads."""
    return [(stage.name, table) for stage in STAGES for table in stage.reads if table.schema]


# Figures and report say of these tables at most what made them.
ROWS_NOT_READ = {
    ("report", "lens"), ("report", "heads"), ("report", "neurons"),
    ("report", "mask"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "table"), jobs_and_tables(), ids=lambda value: getattr(value, "name", value)
)
@pytest.mark.parametrize("part", ["page", "footer"])
def test_no_stage_reads_a_damaged_table(folder, study, stage, table, part):
    layout = StudyLayout(study)
    path = layout.paths(table, model="llava" if "model" in table.wildcards else "")[0]
    flip(path, 40 if part == "page" else path.stat().st_size - 300, 3)
    model = "" if STAGE[stage].per == "study" else "llava"
    if part == "page" and (stage, table.name) in ROWS_NOT_READ:
        run_stage(STAGE[stage], study, model=model)
        assert (RESULTS / "summary.json").read_bytes() == Path("kept/ci/summary.json").read_bytes()
        return
    with pytest.raises(InputError, match=str(path)):
        run_stage(STAGE[stage], study, model=model)


SHARDS = ("answers", "attention", "hidden", "lens")


def gather(study, model="llava", stage="extract"):
    layout = StudyLayout(study)
    run_gather(
        study, STAGE[stage], model=model, folder=layout.results, items=[],
        output=layout.results / model / f"{stage}.json",
    )  # fmt: skip


def swap_models():
    for table, shard in itertools.product(SHARDS, ("000", "001")):
        one, other = (RESULTS / m / table / f"{shard}.parquet" for m in ("llava", "qwen2_vl"))
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)


def copy_other_model():
    for table in SHARDS:
        shutil.copytree(RESULTS / "qwen2_vl" / table, RESULTS / "llava" / table, dirs_exist_ok=True)


def swap_shards():
    for table in SHARDS:
        one, other = (RESULTS / "llava" / table / f"{shard}.parquet" for shard in ("000", "001"))
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)


def one_shard_of_another_study():
    restate(RESULTS / "llava" / "answers" / "001.parquet", study="another")


def one_shard_with_other_keys():
    restate(RESULTS / "llava" / "answers" / "001.parquet", config="0123456789abcdef")


def one_shard_of_other_items():
    path = RESULTS / "llava" / "answers" / "001.parquet"
    restate(path, inputs=json.dumps({"items": "0123456789abcdef"}))


def one_shard_of_other_weights():
    restate(RESULTS / "llava" / "answers" / "001.parquet", weights="0123456789abcdef")


def one_shard_of_another_torch():
    path = RESULTS / "llava" / "answers" / "001.parquet"
    versions = json.loads(read_provenance(path)["versions"]) | {"torch": "1.0"}
    restate(path, versions=json.dumps(versions))


FOREIGN = [
    swap_models, copy_other_model, swap_shards, one_shard_of_another_study,
    one_shard_with_other_keys, one_shard_of_other_items, one_shard_of_other_weights,
    one_shard_of_another_torch,
]  # fmt: skip


@pytest.mark.parametrize("change", FOREIGN, ids=lambda change: change.__name__)
def test_foreign_shards_are_refused_with_and_without_a_new_list(folder, study, change):
    change()
    for stage in ("metrics", "probes"):
        with pytest.raises(InputError, match=r"is not the file that .*extract\.json lists"):
            run_stage(STAGE[stage], study, model="llava")
    with pytest.raises(InputError, match=r"\.parquet: (was made with|holds shard)"):
        gather(study)


def single_tables():
    return [
        (stage.name, table)
        for stage in STAGES
        for table in stage.reads
        if table.schema and MADE_BY[table].per in ("study", "model")
    ]


@pytest.mark.parametrize(
    ("stage", "table"), single_tables(), ids=lambda value: getattr(value, "name", value)
)
@pytest.mark.parametrize("key", ["study", "model", "stage", "config"])
def test_a_table_of_something_else_is_refused(folder, study, stage, table, key):
    if key == "model" and "model" not in table.wildcards:
        pytest.skip("the table is of all models")
    model = "llava" if "model" in table.wildcards else ""
    (path,) = StudyLayout(study).paths(table, model=model)
    restate(path, **{key: "another"})
    with pytest.raises(InputError, match=str(path)):
        run_stage(STAGE[stage], study, model="" if STAGE[stage].per == "study" else "llava")


def test_tables_that_were_made_from_other_rows_are_refused(folder, study):
    """The items have changed since everything else was made of them."""
    path = RESULTS / "items.parquet"
    origin = {key: value for key, value in read_provenance(path).items() if key != "table"}
    schema = schema_of(path)
    write_table(path, schema, read_table(path, schema)[:-1], provenance=origin)
    for stage in ("metrics", "probes", "effects", "figures", "report", "explorer"):
        model = "llava" if STAGE[stage].per == "model" else ""
        with pytest.raises(InputError, match="was made from other rows of items"):
            run_stage(STAGE[stage], study, model=model)


def test_samples_of_two_runs_are_refused_after_either(folder, study):
    """One model's samples were made again with another K: its list and signals are out of date."""
    changed = study.model_dump(mode="json")
    changed["consistency"]["k"] = 3
    again = StudyConfig.model_validate(changed)
    run_stage(STAGE["consistency"], again, model="llava", shard=0)
    with pytest.raises(InputError, match="is not the file that"):
        run_stage(STAGE["metrics"], study, model="llava")
    with pytest.raises(InputError, match="other keys of the configuration"):
        gather(study, stage="consistency")
    with pytest.raises(InputError, match="other keys of the configuration"):
        gather(again, stage="consistency")


def test_a_run_says_which_file_is_damaged(folder, finished):
    path = RESULTS / "llava" / "attention" / "000.parquet"
    flip(path, 60, 2)
    ended = finished.run(*RUN, "--until", "metrics", "--forcerun", "metrics")
    assert ended.status != 0
    assert f"{path}: is damaged: its rows are not those that were written" in ended.output


# What a later run plans.


def test_a_moved_checkout_has_nothing_to_do(folder, finished, tmp_path):
    subprocess.run(["cp", "-r", folder, tmp_path / "moved"], check=True)  # every time is new
    assert planned(plan(StudyCopy(tmp_path / "other", of=tmp_path / "moved", warm=True))) == set()


def test_results_without_records_are_judged_by_what_they_state(folder, finished):
    shutil.move(".snakemake", "records")
    try:
        for path in sorted(RESULTS.rglob("*"), reverse=True):
            os.utime(path)  # copied in another order
        assert planned(plan(finished)) == {"figures", "report", "explorer"}
        output = plan(finished, "--config", "consistency={k: 3}")
        assert "was made with other config" in output
        expected = {"consistency", "gather", "metrics", "probes", "ablate", "gather_interventions"}
        assert planned(output) == expected | {"effects", "figures", "report", "explorer"}
    finally:
        shutil.rmtree(".snakemake")
        shutil.move("records", ".snakemake")


def test_results_that_moved_to_another_folder_are_judged_too(folder, finished):
    shutil.copytree("results", "elsewhere")
    assert planned(plan(finished, "--config", "results=elsewhere")) == {
        "figures",
        "report",
        "explorer",
    }
    output = plan(finished, "--config", "results=elsewhere", "probes={folds: 4}")
    assert "predictions.parquet was made with other config" in output
    shutil.rmtree("elsewhere")


def test_touch_does_not_hide_a_change(folder, finished):
    shutil.copytree(".snakemake", "records")
    try:
        ended = finished.run(*RUN, "--touch", "--config", "seed=99")
        assert ended.status == 0
        output = plan(finished, "--config", "seed=99")
        assert "items.parquet is planned again, since" in output
        assert "was made with other config" in output
        assert {"sample", "consistency", "probes"} <= planned(output)
    finally:
        shutil.rmtree(".snakemake")
        shutil.move("records", ".snakemake")


def test_a_shard_that_was_replaced_under_its_time_is_found(folder, finished):
    path = RESULTS / "llava" / "answers" / "000.parquet"
    times = path.stat()
    restate(path, code="0123456789abcdef")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    output = plan(finished)
    assert f"{path} was made with other code" in output
    assert {"extract", "gather"} <= planned(output)


def test_a_list_of_other_shards_is_found(folder, finished):
    path = RESULTS / "llava" / "answers" / "000.parquet"
    times = path.stat()
    restate(path, execution="{}")  # what a shard that was made again may differ in
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    output = plan(finished)
    assert f"{path} is not the file that it lists" in output
    assert "gather" in planned(output)
    assert "extract" not in planned(output)


def test_equal_rows_are_the_same_input(folder, study):
    path = RESULTS / "items.parquet"
    before = read_seal(path)
    restate(path, code="0123456789abcdef")
    after = read_seal(path)
    assert after.rows == before.rows
    assert after.seal != before.seal
    run_stage(STAGE["metrics"], study, model="llava")

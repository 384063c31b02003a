"""Outputs that SLURM jobs finished after their Snakemake had been killed: kept, or made again."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from programs import write_program
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from snakemake_executor_plugin_vrp_slurm.submissions import (
    pending_submissions,
    record_slurm_id,
    record_submission,
)
from vrp.config.study import load_study, stage_config
from vrp.study.provenance import provenance
from vrp.workflow.orphaned_outputs import (
    OrphanedOutputs,
    find_orphaned_outputs,
    update_records,
)

MADE_BY = {"stage": "consistency", "model": "one", "code": "c0de", "config": "k3"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str | Path, made_by: dict[str, str]) -> None:
    metadata = {f"vrp.{key}": value for key, value in made_by.items()}
    table = pl.DataFrame({"x": [1]}).to_arrow().replace_schema_metadata(metadata)
    assert isinstance(table, pa.Table)
    pq.write_table(table, path)


def set_time(path: str | Path, time: float) -> None:
    os.utime(path, (time, time))


def job(*outputs: str, rule: str = "consistency", inputs: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        output=list(outputs), input=list(inputs), is_group=lambda: False,
        rule=SimpleNamespace(name=rule), wildcards={"model": "one"},
    )  # fmt: skip


def submit(submitted: Any, identifier: str = "17", at: float = 2000) -> None:
    record_submission(submitted, "run")
    record_slurm_id(submitted, identifier)
    for record in Path(".snakemake/slurm_jobs").iterdir():
        record.write_text(json.dumps(json.loads(record.read_text()) | {"time": at}))


def recorded(at: float) -> MetadataRecord:
    return MetadataRecord(endtime=at, params=[])


def found() -> OrphanedOutputs:
    return find_orphaned_outputs(
        pending_submissions(), records(), lambda rule, model: MADE_BY | {"stage": rule}
    )


def records() -> FilePersistence:
    return FilePersistence(nolock=True)


def reasons() -> list[str]:
    assert found().valid == []
    return [reason for _, reason in found().stale]


def test_a_table_that_is_what_the_job_would_make() -> None:
    submit(job("a.parquet"))
    assert found() == ([], [], [])  # for Snakemake to plan
    write("a.parquet", MADE_BY)
    (valid,) = found().valid
    assert (valid.slurm_id, valid.outputs) == ("17", ("a.parquet",))
    assert found().stale == []


@pytest.mark.parametrize("key", ["config", "code", "model", "stage"])
def test_a_table_that_something_else_made(key: str) -> None:
    write("a.parquet", MADE_BY)
    write("b.parquet", {**MADE_BY, key: "0ther"})
    submit(job("a.parquet", "b.parquet"))
    assert reasons() == [f"b.parquet was made with other {key}"]


def test_files_that_do_not_say_what_made_them() -> None:
    submit(job("list.json", rule="gather"))
    Path("list.json").touch()
    assert reasons() == ["its files do not say what made them"]
    submit(job("a.parquet"))
    Path("a.parquet").write_text("text")
    assert any("a.parquet: is not a whole Parquet file" in reason for reason in reasons())


def test_an_input_that_changed_after_the_submission() -> None:
    write("a.parquet", MADE_BY)
    submit(job("a.parquet", inputs=("items",)))
    assert reasons() == ["items has changed since"]  # it is gone
    Path("items").touch()
    set_time("items", 1000)
    assert len(found().valid) == 1
    set_time("items", 3000)
    assert reasons() == ["items has changed since"]


def test_an_input_that_the_same_group_made() -> None:
    write("a.parquet", MADE_BY)
    write("b.parquet", {**MADE_BY, "stage": "probes"})
    first = job("a.parquet")
    second = job("b.parquet", rule="probes", inputs=("a.parquet",))
    submit(SimpleNamespace(is_group=lambda: True, jobs=[first, second]))
    assert len(found().valid) == 2
    # Whatever became of the other job's record.
    records()._write_record("a.parquet", recorded(9e9))
    assert len(found().recorded) == 1
    update_records(found(), records())
    assert [one.outputs for one in found().valid] == [("b.parquet",)]
    records()._delete_record("a.parquet")
    submit(first, "16")
    assert [one.outputs for one, _ in found().stale] == [("b.parquet",)]


def test_what_is_older_than_the_submission_is_not_its_doing() -> None:
    write("a.parquet", {**MADE_BY, "config": "k4"})
    set_time("a.parquet", 1000)
    submit(job("a.parquet"))
    assert found() == ([], [], [])


def test_what_snakemake_knows_to_be_incomplete_is_left_to_it() -> None:
    write("a.parquet", {**MADE_BY, "config": "k4"})
    submit(job("a.parquet"))
    records()._mark_incomplete("a.parquet", None)
    assert found() == ([], [], [])


def test_what_a_run_has_seen_and_recorded_is_followed_no_further() -> None:
    write("a.parquet", {**MADE_BY, "config": "k4"})
    set_time("a.parquet", 2001)
    submit(job("a.parquet"), at=2000)
    records()._write_record("a.parquet", recorded(1999))  # an earlier file of that name
    assert len(found().stale) == 1
    records()._write_record("a.parquet", recorded(2001))
    assert found().stale == []
    assert len(found().recorded) == 1
    update_records(found(), records())
    assert list(pending_submissions()) == []


def test_a_table_that_a_late_job_wrote_over_the_recorded_one() -> None:
    write("a.parquet", {**MADE_BY, "config": "k4"})
    set_time("a.parquet", 2100)
    submit(job("a.parquet", inputs=("items",)), at=2000)
    records()._write_record("a.parquet", recorded(2001))
    assert reasons() == ["a.parquet was made with other config"]
    # What is as it should be has only another time, as in a copy of the folder.
    write("a.parquet", MADE_BY)
    assert len(found().recorded) == 1
    Path("list.json").touch()
    submit(job("list.json"))
    records()._write_record("list.json", recorded(2001))
    assert len(found().recorded) == 2


def test_settling_marks_the_doubtful_and_forgets_what_is_not_true_any_more() -> None:
    for name, config in (("a", "k3"), ("b", "k4")):
        write(f"{name}.parquet", {**MADE_BY, "config": config})
        submit(job(f"{name}.parquet", inputs=(f"{name}.in",)))
        Path(f"{name}.in").touch()
        set_time(f"{name}.in", 1000)
        records()._write_record(f"{name}.parquet", recorded(1.0))
    update_records(found(), records())
    kept = records()._read_record("a.parquet")
    assert kept is not None
    # Snakemake goes on watching the set of inputs.
    assert (kept.input, kept.params, kept.code) == (["a.in"], None, None)
    assert len(found().valid) == 1  # and it goes on being judged here
    assert records()._filter_incomplete_keys(["a.parquet", "b.parquet"]) == {"b.parquet"}


def test_a_verdict_is_taken_back_when_the_configuration_is() -> None:
    write("a.parquet", MADE_BY)
    submit(job("a.parquet"))
    for config in ("k4", "k3", "k4"):
        orphaned = find_orphaned_outputs(
            pending_submissions(), records(), lambda rule, model, c=config: {"config": c}
        )
        update_records(orphaned, records())
        marked = records()._filter_incomplete_keys(["a.parquet"])
        assert marked == ({"a.parquet"} if config == "k4" else set())
        assert len(orphaned.stale) == len(marked)


STUDY = """
study: tiny
models: {one: {family: llava, checkpoint: "zoo:llava"}}
extract: {shards: 1}
"""
TABLE = "results/tiny/one/consistency/000.parquet"
MANY = ("--config", "consistency={k: 20}")


class TinyStudy:
    """A copy of the workflow whose tables lie there, without models or data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = Path(__file__).parents[2]
        for name in ("workflow", "config", "envs"):
            shutil.copytree(root / name, folder / name)
        shutil.copy(root / "Snakefile", folder)
        (folder / "profiles").symlink_to("workflow/profiles")
        (folder / "config" / "tiny.yaml").write_text(STUDY)
        for name in ("data.json", "models/one.json", "sampling.json"):
            path = folder / "results" / "tiny" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (folder / TABLE).parent.mkdir(parents=True)
        self.write("results/tiny/items.parquet", "sample", None)

    def write(self, path: str, stage: str, model: str | None, k: int = 10) -> None:
        study = load_study(self.folder / "config" / "tiny.yaml")
        changed = study.consistency.model_copy(update={"k": k})
        keys = stage_config(study.model_copy(update={"consistency": changed}), stage, model)
        write(path, provenance(study="tiny", stage=stage, config=keys, model=model or ""))

    def make(self, k: int = 10) -> None:
        """Make the table, as a job with so many samples does."""
        self.write(TABLE, "consistency", "one", k)

    def make_and_record(self, k: int = 10) -> None:
        """Make it, and have Snakemake take note of it."""
        self.make(k)
        self.snakemake("--touch", "--forceall")

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / "snakemake", TABLE, "--configfile", "config/tiny.yaml",
             "--cores", "1", *arguments],
            cwd=self.folder, timeout=300, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            },
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout
        return " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.workflow
def test_any_run_plans_by_what_the_files_say_and_not_by_an_earlier_record(here: Path) -> None:
    study = TinyStudy(here)
    study.make_and_record()
    assert "Nothing to be done" in study.snakemake("-n")
    assert "Params have changed" in study.snakemake("-n", *MANY)

    # With another K the table is made once more; Snakemake does not live to see it.
    inputs = ("results/tiny/models/one.json", "results/tiny/items.parquet")
    submitted = job(TABLE, inputs=inputs)
    record_submission(submitted, "run")
    record_slurm_id(submitted, "17")
    study.make(k=20)

    for _ in range(2):  # to have asked changes nothing
        planned = study.snakemake("-n", *MANY)
        assert "Nothing to be done" in planned
        assert "SLURM finished after their Snakemake had ended: 1;" in planned
        back = study.snakemake("-n")
        assert f"SLURM job 17 finished {TABLE} after its Snakemake had ended" in back
        assert "made with other config" in back
        assert "reason: Forced execution" in back


@pytest.mark.slow
@pytest.mark.workflow
def test_a_local_run_is_refused_beside_jobs_that_are_still_queued(here: Path) -> None:
    study = TinyStudy(here)
    record_submission(job(TABLE), "run-of-before")
    for name, script in {"squeue": "echo 17; echo 18", "vrp": "exit 1"}.items():
        write_program(here / "bin" / name, script)
    refused = study.snakemake(fails=True)
    assert "end them with `scancel 17 18`, or continue with `--profile slurm`" in refused
    assert "Nothing was changed" in refused
    write_program(here / "bin" / "squeue", "echo down >&2; exit 1")
    warned = study.snakemake(fails=True)  # by the stand-in for vrp
    assert "may still be in SLURM's queue (squeue: down)" in warned
    assert "Error in rule consistency" in warned


@pytest.mark.slow
@pytest.mark.workflow
def test_a_run_at_work_takes_note_of_its_jobs_itself(here: Path) -> None:
    study = TinyStudy(here)
    study.make_and_record(k=20)
    record_submission(job(TABLE), "run")
    study.make(k=20)
    with (here / "results" / "tiny" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Nothing to be done" in study.snakemake("-n")
    assert "A SLURM job finished" in (planned := study.snakemake("-n"))
    assert "reason: Forced execution" in planned

"""Outputs that SLURM jobs finished after their Snakemake had been killed: kept, or made again."""

import fcntl
import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from snakemake_executor_plugin_vrp_slurm.submissions import (
    pending_submissions,
    record_slurm_id,
    record_submission,
)
from vrp.config.study import StudyConfig
from vrp.study.graph import STAGE
from vrp.study.table_origins import expected_provenance
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import column, integer, table
from vrp.workflow import orphaned_outputs
from vrp.workflow.orphaned_outputs import (
    OrphanedOutputs,
    find_orphaned_outputs,
    recover_orphaned_outputs,
    update_records,
)

TABLE = table("toy", ("x",), column("x", integer, "a number"))
MADE_BY = {"stage": "consistency", "model": "one", "code": "c0de", "config": "k3"}


def write(path: str | Path, made_by: dict[str, str]) -> None:
    write_table(Path(path), TABLE, {"x": [1]}, provenance=made_by)


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


def test_stale_outputs_are_marked_and_untrue_records_replaced() -> None:
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


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged for the user."""
    lines: list[str] = []
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    monkeypatch.setattr(orphaned_outputs, "logger", logger)
    return lines


def workflow(*, main: bool = True, backend: str = "FILE") -> Any:
    return SimpleNamespace(
        is_main_process=main,
        workflow_settings=SimpleNamespace(persistence_backend=SimpleNamespace(name=backend)),
    )


RESULTS = Path("results/tiny")


@pytest.fixture
def two_tables(study: StudyConfig) -> None:
    """The table of one model is valid; that of the other was made with another configuration."""
    for model, config in (("valid", None), ("stale", "0ther")):
        path = RESULTS / model / "consistency" / "000.parquet"
        path.parent.mkdir(parents=True)
        made_by = expected_provenance(study, STAGE["consistency"], "one")
        write(path, made_by | ({"config": config} if config else {}))
        submit(job(str(path)), "17" if config is None else "")


def test_what_was_found_is_logged(study: StudyConfig, logged: list[str], two_tables: None) -> None:
    recover_orphaned_outputs(workflow(), study)
    stale = f"{RESULTS}/stale/consistency/000.parquet"
    assert sorted(logged) == [
        f"A SLURM job finished {stale} after its Snakemake had ended; the job is planned again, "
        f"since {stale} was made with other config.",
        "Jobs that SLURM finished after their Snakemake had ended: 1; what they made is up to "
        "date and is kept.",
    ]
    assert records()._filter_incomplete_keys([stale]) == {stale}


@pytest.mark.parametrize("run", [workflow(main=False), workflow(backend="SQLITE")])
def test_jobs_and_other_records_are_left_alone(
    study: StudyConfig, logged: list[str], two_tables: None, run: Any
) -> None:
    recover_orphaned_outputs(run, study)
    assert logged == []


def test_a_run_at_work_records_its_jobs_itself(
    study: StudyConfig, logged: list[str], two_tables: None
) -> None:
    with (RESULTS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recover_orphaned_outputs(workflow(), study)
        assert logged == []
    recover_orphaned_outputs(workflow(), study)
    assert len(logged) == 2


def test_submissions_of_another_study_are_not_looked_at(
    study: StudyConfig, logged: list[str], two_tables: None
) -> None:
    recover_orphaned_outputs(workflow(), study.model_copy(update={"study": "tin"}))
    assert logged == []


def test_a_snakemake_without_a_name_of_its_persistence_is_reported(
    study: StudyConfig, two_tables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FilePersistence, "_unmark_incomplete")
    with pytest.raises(SystemExit, match=r"^Error: snakemake 9\S+ has no .*\._unmark_incomplete, "):
        recover_orphaned_outputs(workflow(), study)


def test_nothing_is_expected_of_lists_of_shards(study: StudyConfig) -> None:
    expected = partial(orphaned_outputs._expected, study)
    assert expected("gather_interventions", "one") == {}
    stated = expected("metrics", "one")
    assert (stated["stage"], stated["model"]) == ("metrics", "one")
    assert expected("effects", "")["model"] == ""

"""What `vrp status` says of hand-made folders."""

import json
import os
import re
from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from vrp.cli import main
from vrp.config.study import study_from_mapping
from vrp.study import status
from vrp.study.graph import STAGE
from vrp.study.layout import StudyLayout

CONFIG = """
study: tiny
sample: {splits: [{dataset: pope, split: adversarial, task: existence, count: 100}]}
models: {one: {family: llava, checkpoint: "zoo:llava"}}
extract: {shards: 4}
mask: {items: 40}
"""
NOW = 1_800_000_000.0


@pytest.fixture
def study(tmp_path):
    import yaml

    return study_from_mapping(yaml.safe_load(CONFIG))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "tiny"


def put(path: Path, text: str = "", *, ago: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - ago, NOW - ago))
    return path


def finish(folder: Path, shard: str, seconds: float | None = None) -> None:
    for table in ("answers", "attention", "hidden", "lens"):
        put(folder / "one" / table / f"{shard}.parquet")
    if seconds is not None:
        put(folder / "benchmarks/extract/one" / f"{shard}.tsv", f"s\th:m:s\n{seconds}\t0:00:10\n")


def batches(folder: Path, shard: str, done: int, planned: int, *, last_ago: float) -> None:
    """Batches of five items, one every ten seconds."""
    side = folder / "one" / "answers" / f".{shard}.batches"
    plan = [[f"{batch}/{i}" for i in range(5)] for batch in range(planned)]
    put(side / "plan.json", json.dumps({"provenance": {}, "plan": plan}))
    for index in range(done):
        put(side / f"{index:06d}.batch", ago=last_ago + 10 * (done - 1 - index))


def log(folder: Path, shard: str, text: str, *, ago: float = 0) -> Path:
    return put(folder / "logs/extract/one" / f"{shard}.log", text, ago=ago)


def look(study, tmp_path, stage="extract"):
    found = status.run(study, directory=tmp_path, now=NOW)
    (row,) = [its for its in found.stages if its.stage == stage]
    return found, row


def test_nothing_is_there_yet(study, tmp_path):
    found, row = look(study, tmp_path)
    assert (row.jobs, row.waiting, row.items_per_second) == (4, 4, None)
    assert found.failed == []
    assert not found.locked


def test_each_state_of_a_shard(study, tmp_path, folder):
    finish(folder, "000", seconds=10.0)
    batches(folder, "001", done=3, planned=5, last_ago=5)
    log(folder, "001", "extract one:  60%|\rextract one:  60%| 15/25", ago=5)
    log(folder, "002", "loading\nvrp extract: data/x.jpg: no such image file\n", ago=9000)
    batches(folder, "003", done=1, planned=5, last_ago=9000)
    log(folder, "003", "extract one:  20%|", ago=9000)
    found, row = look(study, tmp_path)
    assert (row.done, row.running, row.failed, row.stopped, row.waiting) == (1, 1, 1, 1, 0)
    # One whole shard, three fifths and one fifth of two others.
    assert row.share_done == pytest.approx((1 + 0.6 + 0.2) / 4)
    # 100 items in four shards: 25 in 10 s. 55 are left for the one job that runs.
    assert row.items_per_second == pytest.approx(2.5)
    assert row.seconds_left == pytest.approx(55 / 2.5)
    failed, stopped = found.failed
    assert (failed.state, failed.shard, failed.log) == (
        "failed", "002", str(folder / "logs/extract/one/002.log"),
    )  # fmt: skip
    assert failed.last_lines[-1] == "vrp extract: data/x.jpg: no such image file"
    assert (stopped.state, stopped.batches_done, stopped.batches) == ("stopped", 1, 5)


def test_an_error_of_any_stage_is_known_by_how_its_command_prints_it(study, tmp_path):
    jobs = {job.rule: job for job in StudyLayout(study, directory=tmp_path).jobs()}
    assert {"sample", "gather", "gather_interventions", "report"} <= set(jobs)
    for job in jobs.values():
        put(job.log, f"vrp {STAGE[job.stage].command}: nothing works today\n", ago=5)
    found = status.run(study, directory=tmp_path, now=NOW)
    assert {row.stage for row in found.stages if row.failed} == set(jobs)


def test_without_a_finished_shard_the_batches_tell_the_rate(study, tmp_path, folder):
    batches(folder, "000", done=3, planned=5, last_ago=5)
    _, row = look(study, tmp_path)
    assert row.running == 1
    assert row.items_per_second == pytest.approx(10 / 20)  # two batches of 5 in 20 s
    assert row.seconds_left == pytest.approx((100 - 15) / 0.5)


def test_a_half_written_extraction_is_not_done(study, tmp_path, folder):
    finish(folder, "000")
    (folder / "one" / "lens" / "000.parquet").unlink()
    assert look(study, tmp_path)[1].done == 0


def test_a_table_that_snakemake_holds_for_incomplete_is_not_done(
    study, tmp_path, folder, monkeypatch
):
    finish(folder, "000")
    log(folder, "000", "extract one: 100%", ago=9000)
    monkeypatch.chdir(tmp_path)
    records = FilePersistence(nolock=True)
    records._mark_incomplete("results/tiny/one/hidden/000.parquet", None)
    assert look(study, tmp_path)[1].stopped == 1
    records._unmark_incomplete("results/tiny/one/hidden/000.parquet")
    assert look(study, tmp_path)[1].done == 1


# Snakemake's record of the last two needs more than one name's length.
@pytest.mark.parametrize("length", [8, 190, 191, 600])
def test_snakemakes_mark_is_found_whatever_the_length_of_the_name(tmp_path, monkeypatch, length):
    monkeypatch.chdir(tmp_path)
    name = "results/".rjust(length, "x")
    records = FilePersistence(nolock=True)
    assert not status.is_marked_incomplete(Path(name), tmp_path)
    records._mark_incomplete(str(Path(name)), None)
    assert status.is_marked_incomplete(Path(name), tmp_path)


def test_a_quiet_job_runs_while_its_workflow_holds_the_lock(study, tmp_path, folder):
    log(folder, "000", "loading weights", ago=600)
    assert look(study, tmp_path)[1].stopped == 1
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    put(lock, "results/other/one/answers/000.parquet\n")
    assert look(study, tmp_path)[1].stopped == 1
    put(lock, "results/tiny/one/answers/000.parquet\n")
    found, row = look(study, tmp_path)
    assert found.locked
    assert row.running == 1
    # Not for ever: a killed workflow leaves its lock behind.
    log(folder, "000", "loading weights", ago=9000)
    assert look(study, tmp_path)[1].stopped == 1


def test_a_newer_log_of_the_scheduler_is_read(study, tmp_path, folder):
    log(folder, "000", "extract one:  20%", ago=100)
    kept = tmp_path / ".snakemake/slurm_logs/rule_extract/one_000/17.log"
    put(kept, "slurmstepd: error: Detected 1 oom_kill event\n", ago=10)
    found, row = look(study, tmp_path)
    assert row.failed == 1
    assert found.failed[0].log == str(kept)


GROUP_LOG = """Building DAG of jobs...
[Tue Jan  6 10:00:00 2026]
rule metrics:
    input: results/tiny/items.parquet, results/tiny/one/extraction.json
    output: results/tiny/one/signals.parquet, results/tiny/one/heads.parquet
"""
OUT_OF_MEMORY = "slurmstepd: error: Detected 1 oom_kill event in StepId=17.0\n"


def test_the_log_of_a_group_is_read_for_each_of_its_jobs(study, tmp_path, folder):
    put(folder / "logs/metrics/one.log", "metrics: 10%", ago=100)
    # As the executor names it: the group, its rules, SLURM's id.
    kept = tmp_path / ".snakemake/slurm_logs/group_analysis_metrics_probes/17.log"
    put(kept, GROUP_LOG.replace("/one/", "/another/") + OUT_OF_MEMORY, ago=10)
    assert look(study, tmp_path, "metrics")[1].failed == 0  # another model's
    put(kept, GROUP_LOG + OUT_OF_MEMORY, ago=10)
    found, row = look(study, tmp_path, "metrics")
    assert row.failed == 1
    assert found.failed[0].log == str(kept)
    assert "oom_kill" in found.failed[0].last_lines[-1]
    assert look(study, tmp_path, "probes")[1].waiting == 1
    # It came to its turn once more, and that log is newer.
    put(folder / "logs/metrics/one.log", "metrics: 20%", ago=5)
    assert look(study, tmp_path, "metrics")[1].running == 1


def test_it_prints_where_to_look_and_changes_nothing(tmp_path, folder, capsys):
    config = put(tmp_path / "tiny.yaml", CONFIG)
    finish(folder, "000", seconds=10.0)
    log(folder, "001", "vrp extract: nothing works today\n")
    before = sorted(tmp_path.rglob("*"))
    main(["status", str(config), "--directory", str(tmp_path)])
    text = capsys.readouterr().out
    assert re.search(r"^one +extract +4 +1 \(25%\) +0 +1 +0 +2 +2\.5 +30 s$", text, re.M), text
    assert f"failed: extract one 001; log: {folder / 'logs/extract/one/001.log'}" in text
    assert "    vrp extract: nothing works today" in text
    main(["status", str(config), "--directory", str(tmp_path), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["failed"][0]["last_lines"] == ["vrp extract: nothing works today"]
    assert {row["stage"] for row in content["stages"]} >= {"sample", "extract", "report"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_thousands_of_shards_are_read(tmp_path, study):
    changed = study.model_copy(
        update={"extract": study.extract.model_copy(update={"shards": 2000})}
    )
    [extract, *_] = (
        one for one in status.run(changed, directory=tmp_path).stages if one.stage == "extract"
    )
    assert extract.jobs == 2000


def test_an_error_is_not_lost_among_lines_of_progress(study, tmp_path, folder):
    lines = [f"extract one: {share}% {share}/100 [00:10<00:22]" for share in range(1, 100)]
    lines.insert(-2, "vrp extract: data/x.jpg: no such image file")
    log(folder, "002", "\n".join(lines), ago=9000)
    found, _ = look(study, tmp_path)
    (failed,) = found.failed
    assert failed.last_lines == [lines[-3], lines[-1]]

"""Tables that SLURM jobs finished unseen are recorded where they are up to date, else made anew.

Snakemake runs with programs that stand in for SLURM's: `sbatch` writes down what it is asked for
and refuses it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snakemake_executor_plugin_vrp_slurm.submissions import note
from snakemake_executor_plugin_vrp_slurm.unrecorded import find_unrecorded
from vrp.config.study import load_study, stage_config
from vrp.provenance import provenance

WORKFLOW = """
K = config.get("samples", 3)

rule all:
    default_target: True
    input:
        "out/summary.json",

rule manifest:
    output:
        "out/one.json",
    localrule: True
    shell:
        "touch {output}"

rule consistency:
    input:
        "out/one.json",
    output:
        samples="out/{model}/{shard}.parquet",
    params:
        code_consistency={"code_consistency": "c0de"},
        config_consistency=lambda wildcards: {"config_consistency": f"k{K}"},
    resources:
        gpu=2,
        mem_mb=100,
        runtime=5,
    shell:
        "false"

rule summary:
    input:
        "out/one/000.parquet",
    output:
        "out/summary.json",
    params:
        code_summary="c0de",
        config_summary="-",
    resources:
        mem_mb=100,
        runtime=5,
    shell:
        "false"
"""
PROGRAMS = {
    "sinfo": "echo 'main|gpu:4'",
    "squeue": "true",
    "sacct": "exit 1",
    "scancel": "true",
    "sbatch": 'echo "$@" >>"$SUBMITTED"; echo refused >&2; exit 1',
}
MADE_BY = {"stage": "consistency", "model": "one", "code": "c0de", "config": "k3"}


class Ended(NamedTuple):
    status: int
    output: str
    submitted: list[str]


class Project:
    """A finished workflow of which Snakemake has records of the manifest only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Snakefile").write_text(WORKFLOW)
        (folder / "bin").mkdir()
        for name, script in PROGRAMS.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / "bin" / name).chmod(0o755)
        self.table = folder / "out" / "one" / "000.parquet"
        self.summary = folder / "out" / "summary.json"

    def finish(self, **made_by: str) -> None:
        self.table.parent.mkdir(parents=True)
        (self.folder / "out" / "one.json").touch()
        write(self.table, {**MADE_BY, **made_by})
        self.summary.touch()

    def run(self, *arguments: str) -> Ended:
        submitted = self.folder / "submitted"
        done = subprocess.run(
            [
                Path(sys.executable).parent / "snakemake", "--executor", "vrp-slurm",
                "--jobs", "2", *arguments,
            ],
            cwd=self.folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "SUBMITTED": str(submitted),
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
        lines = submitted.read_text().splitlines() if submitted.exists() else []
        return Ended(done.returncode, done.stdout, [line for line in lines if "--job-name" in line])


def write(path: Path, made_by: dict[str, str]) -> None:
    metadata = {f"vrp.{key}": value for key, value in made_by.items()}
    table = pl.DataFrame({"x": [1]}).to_arrow().replace_schema_metadata(metadata)
    assert isinstance(table, pa.Table)
    pq.write_table(table, path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.slow
@pytest.mark.workflow
def test_up_to_date_tables_are_recorded_and_then_follow_their_parameters(project: Project) -> None:
    project.finish()
    ended = project.run("out/one/000.parquet")
    assert ended.status == 0, ended.output
    assert "1 jobs had been finished by SLURM" in ended.output
    assert ended.submitted == []
    changed = project.run("out/one/000.parquet", "--config", "samples=4")
    assert "reason: Params have changed" in changed.output
    (submission,) = changed.submitted
    assert "consistency_one_000" in submission
    # Both of its GPUs on one node, where the one process that uses them runs.
    assert "--nodes=1" in submission
    assert "--gpus=2" in submission


@pytest.mark.slow
@pytest.mark.workflow
def test_tables_of_another_configuration_are_made_anew(project: Project) -> None:
    project.finish()
    ended = project.run("--config", "samples=4", "--keep-going")
    assert ended.status != 0
    assert "are made anew: consistency" in " ".join(ended.output.split())
    assert "out/one/000.parquet" in ended.output
    # The summary is planned behind it, and waits.
    (submission,) = ended.submitted
    assert "consistency_one_000" in submission
    assert "summary" in ended.output.split("Job stats:")[1].split("total")[0]


STUDY = """
study: tiny
models: {one: {family: llava, checkpoint: "zoo:llava"}}
extract: {shards: 1}
"""


@pytest.mark.slow
@pytest.mark.workflow
def test_tables_of_the_study_are_known_by_their_provenance(project: Project) -> None:
    root = Path(__file__).parents[2]
    for name in ("workflow", "config", "envs"):
        shutil.copytree(root / name, project.folder / name)
    shutil.copy(root / "Snakefile", project.folder)
    config = project.folder / "config" / "tiny.yaml"
    config.write_text(STUDY)
    study = load_study(config)
    results = project.folder / "results" / "tiny"
    for name in ("data.json", "models/one.json", "sampling.json"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()

    def table(path: str, stage: str, model: str | None) -> str:
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        keys = stage_config(study, stage, model)
        made_by = provenance(study="tiny", stage=stage, config=keys, model=model or "")
        write(results / path, made_by)
        return f"results/tiny/{path}"

    table("items.parquet", "sample", None)
    target = table("one/consistency/000.parquet", "consistency", "one")
    ended = project.run(target, "--configfile", "config/tiny.yaml")
    assert ended.status == 0, ended.output
    assert "2 jobs had been finished by SLURM" in ended.output
    table("one/consistency/000.parquet", "extract", "one")
    shutil.rmtree(project.folder / ".snakemake" / "metadata")
    again = project.run(
        target, "--configfile", "config/tiny.yaml", "--config", "consistency={k: 4}"
    )
    assert "are made anew: consistency" in " ".join(again.output.split())
    assert len(again.submitted) == 1


class Records:
    """Snakemake's records: none but those named."""

    def __init__(self, *known: Any) -> None:
        self.known = known

    def has_metadata(self, job: Any) -> bool:
        return job in self.known


def job(*output: Path, stage: str = "consistency", inputs: tuple[Path, ...] = ()) -> Any:
    return SimpleNamespace(
        output=list(output), input=list(inputs), is_local=False, is_group=lambda: False,
        rule=SimpleNamespace(name=stage), wildcards={"model": "one"},
        params={
            "code_" + stage: {"code_" + stage: "c0de"},
            "config_" + stage: {"config_" + stage: "k3"},
        },
    )  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_time(path: Path, time: float) -> None:
    os.utime(path, (time, time))


def test_a_table_that_is_what_the_job_would_make(here: Path) -> None:
    write(here / "a.parquet", MADE_BY)
    its = job(here / "a.parquet")
    assert find_unrecorded([its], Records()) == ([its], [])
    assert find_unrecorded([its], Records(its)) == ([], [])


@pytest.mark.parametrize(
    "other", [{"config": "k4"}, {"code": "0ther"}, {"model": "two"}, {"stage": "extract"}]
)
def test_any_other_table_is_doubtful(here: Path, other: dict[str, str]) -> None:
    write(here / "a.parquet", MADE_BY)
    write(here / "b.parquet", {**MADE_BY, **other})
    its = job(here / "a.parquet", here / "b.parquet")
    assert find_unrecorded([its], Records()) == ([], [its])


def test_a_file_that_is_no_table_is_doubtful(here: Path) -> None:
    (here / "a.parquet").write_text("text")
    its = job(here / "a.parquet")
    assert find_unrecorded([its], Records()) == ([], [its])


def test_what_is_not_there_is_for_snakemake_to_plan(here: Path) -> None:
    assert find_unrecorded([job(here / "a.parquet")], Records()) == ([], [])


def test_without_a_table_only_what_was_submitted_from_here_is_doubtful(here: Path) -> None:
    (here / "a.json").touch()
    its = job(here / "a.json", stage="gather")
    assert find_unrecorded([its], Records()) == ([], [])
    note(its, "17", "run")
    assert find_unrecorded([its], Records()) == ([], [its])


def test_an_input_that_changed_after_the_submission(here: Path) -> None:
    (here / "items").touch()
    write(here / "a.parquet", MADE_BY)
    its = job(here / "a.parquet", inputs=(here / "items",))
    set_time(here / "items", 1000)
    note(its, "17", "run")
    assert find_unrecorded([its], Records()).current == [its]
    set_time(here / "items", 9e9)
    assert find_unrecorded([its], Records()).doubtful == [its]


def test_an_input_that_the_same_group_made(here: Path) -> None:
    write(here / "a.parquet", MADE_BY)
    write(here / "b.parquet", {**MADE_BY, "stage": "probes"})
    first = job(here / "a.parquet")
    second = job(here / "b.parquet", stage="probes", inputs=(here / "a.parquet",))
    note(SimpleNamespace(is_group=lambda: True, jobs=[first, second]), "17", "run")
    set_time(here / "a.parquet", 9e9)
    assert find_unrecorded([first, second], Records()).current == [first, second]
    note(first, "16", "run")
    assert find_unrecorded([first, second], Records()).doubtful == [second]

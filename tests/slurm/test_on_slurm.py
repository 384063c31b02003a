"""`snakemake --profile slurm` on a real SLURM: the small study, from nothing to the report."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_cluster import SlurmCluster
from study_copy import StudyCopy, in_one_shard
from study_tables import differences

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]

MODEL_STAGES = ("extract", "blind", "consistency", "p_true", "mask", "ablate")
COMMANDS = {stage.replace("_", "-") for stage in MODEL_STAGES}
LIGHT = {"sample", "metrics", "probes", "effects", "figures", "report", "explorer"}
# The embedded models want no GPU: here they ask for one, as large ones do by themselves.
WITH_GPU = [f"{stage}:gpu=1" for stage in MODEL_STAGES]
ON_SLURM = (
    "--profile", "slurm", "--configfile", "config/ci.yaml",
    "--vrp-slurm-init-seconds-before-status-checks", "2", "--set-resources", *WITH_GPU,
    # One core a job: there are two.
    "--set-threads", *(f"{stage}=1" for stage in (*MODEL_STAGES, "probes")),
)  # fmt: skip


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, cluster: SlurmCluster) -> StudyCopy:
    """A copy of the project whose study ran under SLURM, of one of its models."""
    folder = tmp_path_factory.mktemp("study") / "slurm"
    folder.mkdir()
    copy = StudyCopy(folder, warm=True)
    config = folder / "config" / "ci.yaml"
    study = yaml.safe_load(config.read_text())
    del study["models"]["qwen2_vl"]
    config.write_text(yaml.safe_dump(study))
    ended = copy.run(*ON_SLURM, timeout=1800)
    assert ended.status == 0, ended.output[-5000:]
    return copy


def test_it_goes_from_nothing_to_the_report(remote: StudyCopy) -> None:
    results = remote.folder / "results" / "ci"
    assert "</html>" in (results / "report.html").read_text()
    assert (results / "summary.json").is_file()
    assert not list(results.rglob(".*.batches"))


def test_the_tables_are_those_of_a_local_run(remote: StudyCopy, ci_study: Any) -> None:
    there, here = (
        results / "llava" for results in (remote.folder / "results/ci", ci_study.results)
    )
    assert len(list(there.rglob("*.parquet"))) == len(list(here.rglob("*.parquet"))) > 10
    assert list(differences(there, here, to_the_bit=True)) == []


def test_model_runs_hold_the_gpu_and_light_stages_do_not(
    remote: StudyCopy,
) -> None:
    starts = remote.events("start")
    held = {
        stage: {start["environment"]["CUDA_VISIBLE_DEVICES"] for start in of}
        for stage in {start["stage"] for start in starts}
        if (of := [start for start in starts if start["stage"] == stage])
    }
    assert {stage: held[stage] for stage in COMMANDS} == {stage: {"0"} for stage in COMMANDS}
    assert {stage for stage in held if held[stage] == {None}} == held.keys() - COMMANDS
    assert held.keys() > LIGHT


def test_what_needs_the_network_or_takes_seconds_runs_here_and_all_else_in_jobs(
    remote: StudyCopy,
) -> None:
    starts = remote.events("start")
    here = {start["stage"] for start in starts if start["environment"]["SLURM_JOB_ID"] is None}
    assert here == {"fetch-data", "fetch-model", "sample", "boxes", "gather"}


def test_one_job_is_one_shard_and_light_stages_share_one(
    remote: StudyCopy,
) -> None:
    jobs: dict[str, list[str]] = {}
    for start in remote.events("start"):
        if job := start["environment"]["SLURM_JOB_ID"]:
            jobs.setdefault(job, []).append(start["stage"])
    shared = sorted(sorted(stages) for stages in jobs.values() if len(stages) > 1)
    assert shared == [["effects", "figures", "report"], ["metrics", "probes"]]
    assert sum(stages[0] in COMMANDS for stages in jobs.values()) == 2 * 6


def test_logs_are_kept(remote: StudyCopy) -> None:
    logs = Path(remote.folder, ".snakemake", "slurm_logs")
    assert len(list(logs.rglob("*.log"))) >= 10


def test_a_second_run_does_nothing(remote: StudyCopy) -> None:
    ended = remote.run(*ON_SLURM)
    assert ended.status == 0
    assert "Nothing to be done" in ended.output


def test_a_project_and_results_in_folders_of_odd_names(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """Only the shard is a job; the sample before it and the list after it wait in no queue."""
    folder = tmp_path / "it's $(touch w);touch w %j" / "my project"
    folder.mkdir(parents=True)
    project, results = StudyCopy(folder, warm=True), tmp_path / "scratch $HOME" / "x'y (1)"
    config = folder / "config" / "ci.yaml"
    small = in_one_shard(yaml.safe_load(config.read_text()))
    del small["models"]["qwen2_vl"]
    config.write_text(yaml.safe_dump(small))
    ended = project.run(
        str(results / "ci" / "llava" / "extract.json"), *ON_SLURM,
        "--config", "results=$SCRATCH/x'y (1)", SCRATCH=str(results.parent), timeout=1200,
    )  # fmt: skip
    assert ended.status == 0, ended.output[-5000:]
    assert (results / "ci" / "llava" / "extract.json").is_file()
    assert not [*tmp_path.rglob("w")]
    jobs = {e["stage"]: e["environment"]["SLURM_JOB_ID"] for e in project.events("start")}
    assert {stage for stage in jobs if jobs[stage]} == {"extract"}
    assert jobs.keys() == {"fetch-data", "fetch-model", "sample", "extract", "gather"}

"""A local run is refused while SLURM jobs of a killed one may work on its results."""

from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_plugin_vrp_slurm.queue import SlurmError
from snakemake_executor_plugin_vrp_slurm.submissions import record_submission
from vrp.workflow import orphaned_jobs
from vrp.workflow.orphaned_jobs import refuse_beside_slurm_jobs

LOCAL = SimpleNamespace(executor_plugin=SimpleNamespace(name="local"))
SLURM = SimpleNamespace(executor_plugin=SimpleNamespace(name="vrp-slurm"))


def submit(output: str, run: str, model: str = "one") -> None:
    record_submission(
        SimpleNamespace(
            output=[output], input=[], is_group=lambda: False, wildcards={"model": model},
            rule=SimpleNamespace(name="extract"),
        ),
        run,
    )  # fmt: skip


@pytest.fixture
def queue(monkeypatch) -> dict[str, set[str]]:
    """Run → jobs of it that have not ended."""
    jobs: dict[str, set[str]] = {}
    monkeypatch.setattr(orphaned_jobs, "unfinished", lambda run: jobs[run])
    return jobs


def test_jobs_of_the_study_are_named(study, queue):
    submit("results/tiny/one/answers/000.parquet", "before")
    queue["before"] = {"18", "17"}
    with pytest.raises(SystemExit) as refused:
        refuse_beside_slurm_jobs(LOCAL, study)
    assert "results/tiny: SLURM jobs of an earlier run" in str(refused.value)
    assert "`scancel 17 18`, or continue with `--profile slurm`" in str(refused.value)
    refuse_beside_slurm_jobs(SLURM, study)  # which cancels them itself
    queue["before"] = set()
    refuse_beside_slurm_jobs(LOCAL, study)


def test_jobs_of_other_studies_and_models_do_not_matter(study, queue):
    submit("results/tiny-other/one/answers/000.parquet", "other study")
    submit("results/tiny/two/answers/000.parquet", "other model", model="two")
    refuse_beside_slurm_jobs(LOCAL, study)  # the queue is not asked for these runs


def test_a_queue_that_does_not_answer_is_warned_of(study, monkeypatch, caplog):
    def silent(run: str) -> Any:
        raise SlurmError("squeue: down")

    monkeypatch.setattr(orphaned_jobs, "unfinished", silent)
    submit("results/tiny/one/answers/000.parquet", "before")
    refuse_beside_slurm_jobs(LOCAL, study)
    assert caplog.messages == [
        "Jobs of an earlier run may still be in SLURM's queue (squeue: down)."
    ]

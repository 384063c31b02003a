"""Runs after a SLURM run that was killed: what its jobs finished, and what still works."""

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from programs import write_program
from study_copy import SNAKEMAKE
from warm_python import warm

from snakemake_executor_plugin_vrp_slurm.submissions import record_slurm_id, record_submission
from vrp.config.study import load_study
from vrp.study.digests import code_digest
from vrp.study.graph import STAGE
from vrp.study.keys import stage_config
from vrp.study.provenance import provenance
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import column, integer, table

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

STUDY = """
study: tiny
models: {one: {family: llava, checkpoint: "zoo:llava"}}
extract: {shards: 1}
"""
TOY = table("toy", ("x",), column("x", integer, "a number"))
TABLE = "results/tiny/one/consistency/000.parquet"
MANY = ("--config", "consistency={k: 20}")


class TinyStudy:
    """A copy of the workflow whose tables exist, without models or data."""

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
        changed_study = study.model_copy(update={"consistency": changed})
        keys = stage_config(changed_study, STAGE[stage], model)
        code = code_digest(changed_study, stage, model or "")
        made_by = provenance(study="tiny", stage=stage, config=keys, code=code, model=model or "")
        write_table(self.folder / path, TOY, {"x": [1]}, provenance=made_by)

    def make(self, k: int = 10) -> None:
        """Make the table, as a job with so many samples does."""
        self.write(TABLE, "consistency", "one", k)

    def make_and_record(self, k: int = 10) -> None:
        """Make it, and have Snakemake record it."""
        self.make(k)
        self.snakemake("--touch", "--forceall")

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [*warm(SNAKEMAKE), TABLE, *arguments,
             "--configfile", "config/tiny.yaml", "--cores", "1"],
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


def submit(run: str, *inputs: str) -> None:
    """Record the submission of the table's job as SLURM job 17."""
    submitted = SimpleNamespace(
        output=[TABLE], input=list(inputs), is_group=lambda: False,
        rule=SimpleNamespace(name="consistency"), wildcards={"model": "one"},
    )  # fmt: skip
    record_submission(submitted, run)
    record_slurm_id(submitted, "17")


def test_any_run_plans_by_what_the_files_say_and_not_by_an_earlier_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = TinyStudy(tmp_path)
    study.make_and_record()
    assert "Nothing to be done" in study.snakemake("-n")
    assert "Params have changed" in study.snakemake("-n", *MANY)

    # With another K the table is made once more; Snakemake does not live to see it.
    submit("run", "results/tiny/models/one.json", "results/tiny/items.parquet")
    study.make(k=20)

    for _ in range(2):  # to have asked changes nothing
        planned = study.snakemake("-n", *MANY)
        assert "Nothing to be done" in planned
        assert "SLURM finished after their Snakemake had ended: 1;" in planned
        back = study.snakemake("-n")
        assert f"SLURM job 17 finished {TABLE} after its Snakemake had ended" in back
        assert "made with other config" in back
        assert "reason: Forced execution" in back


def test_a_local_run_is_refused_beside_jobs_that_are_still_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = TinyStudy(tmp_path)
    submit("run-of-before")
    write_program(tmp_path / "bin" / "squeue", "echo 17; echo 18")
    refused = study.snakemake(fails=True)
    assert "end them with `scancel 17 18`, or continue with `--profile slurm`" in refused
    assert "Nothing was changed" in refused

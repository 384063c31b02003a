"""Every study plans: offline, without data, without SLURM, and writes nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

STAGES = {
    "fetch_data", "fetch_model", "sample", "extract", "blind", "consistency", "gather", "metrics",
    "probes", "mask", "ablate", "trace", "gather_interventions", "effects", "figures", "report",
    "explorer",
}  # fmt: skip
RUNS_A_MODEL = {"extract", "blind", "consistency", "mask", "ablate", "trace"}


def files_of(folder: Path) -> set[Path]:
    skipped = (".snakemake", "cache", "__pycache__")
    return {
        path for path in folder.rglob("*") if path.is_file() and not set(skipped) & set(path.parts)
    }


@pytest.mark.parametrize(
    ("arguments", "study", "models", "shards", "intervention_shards"),
    [
        ([], "demo", 3, 1, 1),
        (["--configfile", "config/paper-13b.yaml"], "paper-13b", 1, 4, 8),
        (["--configfile", "config/ci.yaml"], "ci", 2, 2, 2),
        (["--profile", "profiles/ci"], "ci", 2, 2, 2),
        (["--configfile", "config/paper.yaml"], "paper", 3, 4, 8),
        (["--profile", "slurm"], "paper", 3, 4, 8),
        (["--profile", "slurm", "--configfile", "config/ci.yaml"], "ci", 2, 2, 2),
    ],
)
def test_study_plans(checkout, arguments, study, models, shards, intervention_shards):
    before = files_of(checkout.folder)

    result = checkout.run("-n", *arguments)

    assert result.status == 0, result.output
    judged = {"p_true"} if study == "ci" else set()  # off elsewhere
    drawn = {"boxes"} if study in ("demo", "ci") else set()  # only scenes have them by themselves
    assert set(result.planned) == STAGES | judged | drawn
    for stage in ("fetch_model", "metrics", "probes"):
        assert result.planned[stage] == models
    assert result.planned["gather"] == (3 + len(judged)) * models
    assert result.planned["gather_interventions"] == 3 * models
    for stage in ("extract", "blind", "consistency", *judged):
        assert result.planned[stage] == models * shards
    for stage in ("mask", "ablate", "trace"):
        assert result.planned[stage] == models * intervention_shards
    for stage in ("fetch_data", "sample", *drawn, "effects", "figures", "report", "explorer"):
        assert result.planned[stage] == 1
    # No other study's models or folder have leaked in, by the default config or by a profile.
    assert set(re.findall(r"results/([\w-]+)/", result.output)) == {study}
    assert len(set(re.findall(r"wildcards: model=([^,\n]+)", result.output))) == models
    # Dry-runs change nothing, and the default profile is always there.
    assert files_of(checkout.folder) == before
    assert "specific profile profiles/default" in result.output
    # Only model runs hold a GPU, and only those of models that want one.
    assert rules_with_gpu(result.output) == (RUNS_A_MODEL if "paper" in study else set())


def rules_with_gpu(output: str) -> set[str]:
    blocks = re.split(r"^(?=(?:local)?rule \w+:)", output, flags=re.MULTILINE)
    return {
        block.split(":")[0].split()[-1] for block in blocks[1:] if re.search(r"\bgpu=[1-9]", block)
    }


def test_one_key_changes_and_the_rest_stays(checkout):
    result = checkout.run("-n", "--config", "extract={shards: 3, blind: false}")
    assert result.planned["extract"] == 9
    assert "blind" not in result.planned
    assert result.planned["gather"] == 2 * 3
    assert result.planned["probes"] == 3


def test_a_study_without_attention_plans_without_the_masking(checkout):
    result = checkout.run("-n", "--config", "extract={capture: []}", "mask={enabled: false}")
    assert result.status == 0, result.output
    assert set(result.planned) == {*STAGES, "boxes"} - {"mask"}
    refused = checkout.run("-n", "--config", "extract={capture: []}")
    assert refused.status != 0
    (line,) = [row for row in refused.output.splitlines() if "mask.enabled" in row]
    assert line.startswith("Error in the configuration: ")
    assert "Traceback" not in refused.output


def test_a_study_without_interventions_plans_without_them(checkout):
    off = [f"{stage}={{enabled: false}}" for stage in ("ablate", "mask", "trace")]
    result = checkout.run("-n", "--config", *off)
    assert result.status == 0, result.output
    left_out = {"mask", "ablate", "trace", "gather_interventions"}
    assert set(result.planned) == {*STAGES, "boxes"} - left_out


def test_hundreds_of_shards_plan(checkout):
    """A job waits for a fixed number of files, but for the lists of shards.

    Snakemake goes through all that a job of a group waits for once for each of it, and through all
    inputs of a job for everyone that waits for it.
    """
    sharded = ("extract", "mask", "ablate", "trace")
    result = checkout.run(
        "-n",
        "-p",
        "--profile",
        "slurm",
        "--config",
        *(f"{stage}={{shards: 200}}" for stage in sharded),
    )
    assert result.status == 0, result.output
    assert sum(result.planned.values()) == 3 * 6 * 200 + 3 * 9 + 6
    inputs = re.findall(r"^rule (\w+):\n    input: (.*)$", result.output, flags=re.MULTILINE)
    counts = {rule: {len(line.split(", ")) for name, line in inputs if name == rule}
              for rule in dict(inputs)}  # fmt: skip
    counts.pop("all")  # every figure and file for people, however many shards there are
    assert {rule: n for rule, n in counts.items() if max(n) > 100} == {
        "gather": {4 * 200, 200, 3 * 200},
        "gather_interventions": {200},
    }
    # Commands name lists and not shards: there is a longest command line.
    commands = re.findall(r"vrp [a-z-]+ (?:.*\\\n)*.*2>&1", result.output)
    assert len(commands) > 3 * 6 * 200
    assert max(map(len, commands)) < 10_000


def test_planning_imports_nothing_heavy():
    code = (
        "import sys, vrp.config.study, vrp.study.provenance\n"
        "heavy = {'torch', 'transformers', 'numpy', 'polars', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The recipes, before anything has run.


def test_until_a_stage(checkout):
    result = checkout.run("-n", "--until", "metrics")
    assert set(result.planned) == {
        "fetch_data", "fetch_model", "sample", "boxes", "extract", "blind", "consistency", "gather",
        "metrics",
    }  # fmt: skip


def test_one_model(checkout):
    result = checkout.run("-n", "results/demo/llava/metrics.parquet")
    assert result.planned["extract"] == 1
    assert all("model=llava" in reason for reason in result.reasons("extract"))


def test_one_shard(checkout):
    result = checkout.run(
        "-n", "results/ci/llava/answers/001.parquet", "--configfile", "config/ci.yaml"
    )
    assert set(result.planned) == {"fetch_data", "fetch_model", "sample", "extract"}
    assert ["shard=001" in reason for reason in result.reasons("extract")] == [True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "sed=1"], ["config/demo.yaml", "'sed'", "did you mean 'seed'"]),
        (
            ["--configfile", "config/ci.yaml", "--config", "models={llava: {dtyp: float16}}"],
            ["config/ci.yaml", "'models.llava.dtyp'", "did you mean 'dtype'"],
        ),
    ],
)
def test_a_wrong_key_is_one_line(checkout, arguments, words):
    result = checkout.run("-n", *arguments)
    assert result.status != 0
    lines = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in result.output

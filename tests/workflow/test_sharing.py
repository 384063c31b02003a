"""A study that takes another's extraction: what it plans, and when it is refused."""

import json
import os
import shutil
from base64 import urlsafe_b64encode

import pytest
from finished_extraction import write_extraction

from vrp.config.study import load_study
from vrp.study.digests import by_module, job_definitions
from vrp.study.layout import StudyLayout

pytestmark = pytest.mark.workflow

STUDY = """
study: first
models:
  one: {family: llava, checkpoint: "zoo:llava"}
extract: {shards: 2}
"""
SECOND = STUDY.replace("first", "second") + "extraction_from: first\nprobes: {sparse_c: 0.5}\n"
WITH_MASK = ("extract", "blind", "consistency", "mask", "trace")
MODEL_RUNS = {"extract", "blind", "consistency", "fetch_model"}
PLAN = ("-n", "--configfile", "config/second.yaml")


def write_shards(folder, **different):
    """The first study's extraction."""
    write_extraction(folder / "config" / "first.yaml", folder, **different)


@pytest.fixture
def two(checkout):
    """A checkout with a finished extraction and a second study that points at it."""
    shutil.rmtree(checkout.folder / "results", ignore_errors=True)
    (checkout.folder / "config" / "first.yaml").write_text(STUDY)
    (checkout.folder / "config" / "second.yaml").write_text(SECOND)
    write_shards(checkout.folder)
    return checkout


def refused(two) -> str:
    result = two.run(*PLAN)
    assert result.status != 0
    lines = [line for line in result.output.splitlines() if "extraction_from" in line]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    return lines[0]


def test_no_model_is_asked_again(two):
    result = two.run(*PLAN)
    assert result.status == 0, result.output
    assert not MODEL_RUNS & set(result.planned)
    assert set(result.planned) == {
        "fetch_data", "sample", "boxes", "gather", "metrics", "probes", "mask", "trace",
        "gather_interventions", "effects", "figures", "report", "explorer",
    }  # fmt: skip
    study = load_study(two.folder / "config" / "second.yaml")
    declared = {
        frozenset(str(path.relative_to(two.folder)) for path in job.outputs): {job.rule}
        for job in StudyLayout(study, directory=two.folder).jobs()
    }
    assert {outputs: job["rule"] for outputs, job in result.jobs.items()} == declared
    # Shards are read where they are, and nothing is written there.
    assert "results/first/one/hidden/001.parquet" in result.output
    assert "output: results/first" not in result.output


def test_without_interventions_of_its_own_no_gpu_is_held(two):
    real_models(two)
    write_shards(two.folder)
    result = two.run(*PLAN, "--until", "probes")
    assert set(result.planned) == {"fetch_data", "sample", "boxes", "gather", "metrics", "probes"}
    assert "gpu=" not in result.output
    assert "The stage mask is the study's own: " in result.output


def model_runs(two) -> set[str]:
    result = two.run(*PLAN)
    assert result.status == 0, result.output
    assert "gpu=1" not in result.output or {"mask", "ablate"} & set(result.planned)
    return {"mask", "ablate", *MODEL_RUNS} & set(result.planned)


def real_models(two, more: str = "") -> None:
    """Both studies with a checkpoint that wants a GPU."""
    for name, text in (("first", STUDY), ("second", SECOND + more)):
        real = text.replace("zoo:llava", "llava-hf/llava-1.5-7b-hf")
        (two.folder / "config" / f"{name}.yaml").write_text(real)


def test_other_probes_cost_no_gpu_second(two):
    """The masking is read where it is the very same; the ablation runs where it is asked for."""
    real_models(two)
    write_shards(two.folder, stages=WITH_MASK)
    assert model_runs(two) == set()
    result = two.run(*PLAN)
    assert "results/first/one/mask/000.parquet" in result.output
    assert "gpu=" not in result.output
    assert "The ablation is left out" in result.output
    real_models(two, "ablate: {items: 100}\n")
    assert model_runs(two) == set()
    real_models(two, "ablate: {enabled: true}\n")
    assert model_runs(two) == {"ablate"}
    assert "left out" not in two.run(*PLAN).output


def test_a_masking_that_is_not_the_very_same_is_the_studys_own(two):
    write_shards(two.folder, stages=WITH_MASK)
    config = two.folder / "config" / "second.yaml"
    config.write_text(SECOND)
    assert model_runs(two) == set()
    # Other keys.
    config.write_text(SECOND + "mask: {items: 20}\n")
    assert model_runs(two) == {"mask"}
    # More shards than there are.
    config.write_text(SECOND + "mask: {shards: 2}\n")
    assert model_runs(two) == {"mask"}
    config.write_text(SECOND)
    # Own ones have begun.
    own = two.folder / "results" / "second" / "one" / "mask"
    own.mkdir(parents=True)
    assert model_runs(two) == {"mask"}
    own.rmdir()
    assert model_runs(two) == set()
    # Shards that were extracted after the masking.
    answers = two.folder / "results" / "first" / "one" / "answers" / "000.parquet"
    later = answers.stat().st_mtime + 10
    os.utime(answers, (later, later))
    assert model_runs(two) == {"blind", "mask"}


def test_signals_wait_until_the_shards_are_checked(two):
    result = two.run(*PLAN, "--until", "metrics")
    assert result.planned["gather"] == 3  # of extraction, blank-image run and samples
    (block,) = [b for b in result.output.split("\nrule ") if b.startswith("metrics:")]
    assert "results/second/one/extract.json" in block


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "other"}, "other code of the stage extract"),
        ({"revision": "r2"}, "revision 'r2', not 'r1'"),
        ({"config_digest": "other"}, "another configuration"),
    ],
)
def test_shards_of_other_origin_are_refused(two, change, words):
    write_shards(two.folder, **change)
    assert words in refused(two)


def test_the_definition_that_differs_is_named(two):
    write_shards(two.folder, code="other")
    shard = "results/first/one/answers/000.parquet"
    study = load_study(two.folder / "config" / "first.yaml")
    made_with = dict(job_definitions(study, "extract", "one")) | {
        "vrp.vlm.attention_tap:active": "0123abcd"
    }
    record = two.folder / ".snakemake" / "metadata" / urlsafe_b64encode(shard.encode()).decode()
    record.parent.mkdir(parents=True, exist_ok=True)
    params = [repr({name: found}) for name, found in by_module(made_with).items()]
    record.write_text(json.dumps({"params": params}))
    assert "other code of the stage extract: vrp.vlm.attention_tap:active; rerun" in refused(two)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shards: 2}", "shards: 2, max_new_tokens: 3}", "extract.max_new_tokens is 6 there, 3"),
        (
            '"zoo:llava"}',
            '"zoo:llava", prompt: plain}',
            "models.one.prompt is 'short_answer' there",
        ),
        ("study: second", "study: second\nseed: 3", "seed is 0 there, 3 here"),
        ("study: second", "study: second\ndata: {scenes: {n_vqa_images: 9}}", "other items"),
        ("shards: 2}", "shards: 3}", "002.parquet does not exist"),
        ("extraction_from: first", "extraction_from: third", "results/third does not exist"),
        ("extraction_from: first", "extraction_from: second", "names this very study"),
    ],
)
def test_a_study_that_asks_otherwise_is_refused(two, old, new, words):
    (two.folder / "config" / "second.yaml").write_text(SECOND.replace(old, new))
    assert words in refused(two)


def test_a_shard_that_is_missing_is_named(two):
    (two.folder / "results" / "first" / "one" / "hidden" / "001.parquet").unlink()
    assert "results/first/one/hidden/001.parquet does not exist" in refused(two)


def test_a_blank_image_run_that_is_missing_there_is_made_here_or_left_out(two):
    for path in (two.folder / "results" / "first" / "one" / "blind").rglob("*.parquet"):
        path.unlink()
    result = two.run(*PLAN)
    assert "The stage blind is the study's own: results/first/one/blind/answers" in result.output
    assert result.planned["blind"] == 2
    text = SECOND.replace("shards: 2}", "shards: 2, blind: false}")
    (two.folder / "config" / "second.yaml").write_text(text)
    result = two.run(*PLAN)
    assert result.status == 0, result.output
    assert "blind" not in result.planned

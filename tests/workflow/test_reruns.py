"""What an edit makes run again, and that the dry-run's own reason names the edit.

Of edits of the source, all are compared by the stages' digests; some of them, and all edits of the
configuration, by dry-runs: a tiny study of two models has run with a stand-in for `vrp`; each case
edits one thing, plans, and takes the edit back.
"""

import ast
import contextlib
import functools
import re
import shutil
from pathlib import Path

import pytest
import yaml
from source_edits import FAMILIES, MODEL_RUNS, NOTHING, SOMETHING

import vrp
from vrp.config.study import load_study
from vrp.study import digests
from vrp.study.graph import STAGE

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

PLAN = ("-n", "--configfile", "config/tiny.yaml")
JOINT = {"effects", "figures", "report"}
LISTED = {"gather_interventions", "explorer"} | JOINT
AFTER_PROBES = {"probes", "ablate"} | LISTED
AFTER_METRICS = {"metrics"} | AFTER_PROBES
AFTER_EXTRACT = {"gather", "blind", "mask", "trace"} | AFTER_METRICS
ALL_BUT_FETCH = {"sample", "boxes", "extract", "consistency"} | AFTER_EXTRACT
ALL_OF_A_MODEL = ALL_BUT_FETCH - {"sample", "boxes"}


def plan(finished, *more: str):
    result = finished.run(*PLAN, *more)
    assert result.status == 0, result.output
    return result


def test_the_study_has_run_and_needs_nothing(finished):
    results = finished.folder / "results" / "tiny"
    assert (results / "report.html").is_file()
    assert (results / "one" / "answers" / "001.parquet").read_text() == "tiny extract one 1"
    assert (results / "logs" / "extract" / "two" / "000.log").read_text() == (
        "extract: 5/5 items, 1 threads\n"
    )
    assert (results / "benchmarks" / "extract" / "two" / "000.tsv").is_file()
    assert plan(finished).planned == {}


def test_the_snapshot_is_the_whole_configuration(finished):
    snapshot = finished.folder / "results" / "tiny" / "config.yaml"
    assert load_study(snapshot) == load_study(finished.folder / "config" / "tiny.yaml")
    assert yaml.safe_load(snapshot.read_text())["consistency"]["k"] == 10


AFTER = {
    "fetch_data": set(),  # its manifest comes out the same
    "sample": ALL_BUT_FETCH - {"sample"},
    "boxes": AFTER_METRICS,
    "extract": AFTER_EXTRACT,
    "blind": {"gather"} | AFTER_METRICS,
    "consistency": {"gather"} | AFTER_METRICS,
    "gather": AFTER_EXTRACT,
    "metrics": AFTER_METRICS,
    "probes": AFTER_PROBES,
    "mask": LISTED,
    "ablate": LISTED,
    "trace": LISTED,
    "effects": JOINT,
    "figures": {"report"},
    "report": set(),
    "explorer": set(),
}
"""Stage → the rules that run again after it."""
EDITS = {**NOTHING, **SOMETHING}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package's source that a test may edit."""
    folder = tmp_path_factory.mktemp("source") / "vrp"
    ignore = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(Path(vrp.__file__).parent, folder, ignore=ignore)
    return folder


def digests_of_all(monkeypatch, package, families=FAMILIES):
    """(stage, family) → definitions that it depends on; one family where it runs no model."""
    monkeypatch.setattr(digests, "_FOLDER", package)
    digests._parsed.cache_clear()
    digests._definitions.cache_clear()
    return {
        (stage, family): dict(
            digests.stage_definitions(stage, digests.Chosen((family,), ("pope", "vqa")))
        )
        for stage in STAGE
        for family in (families if stage in MODEL_RUNS else ("llava",))
    }


@pytest.fixture(scope="module")
def before(package):
    """What every stage depends on before any edit."""
    with pytest.MonkeyPatch.context() as patch:
        return digests_of_all(patch, package)


@pytest.fixture(autouse=True)
def forget_digests():
    """Leave no digest of an edited copy behind, and parse what is not edited once."""
    parse, ast.parse = ast.parse, _PARSE_ONCE  # by its bytes
    yield
    ast.parse = parse
    digests._parsed.cache_clear()
    digests._definitions.cache_clear()


_PARSE_ONCE = functools.cache(ast.parse)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_stages_that_depend_on_it_and_no_other(
    monkeypatch, package, before, name
):
    edit = EDITS[name]
    # What lies outside the room of models knows nothing of families.
    of_models = any(path.startswith("vlm/") for path, _, _ in edit.changes)
    families = FAMILIES if of_models or edit.family else ("llava",)
    with edited(package, edit):
        now = digests_of_all(monkeypatch, package, families)
    changed = {job for job in now if before[job] != now[job]}
    assert changed == {
        (stage, family)
        for stage in edit.stages
        for family in (families if stage in MODEL_RUNS else ("llava",))
        if edit.family in ("", family)
    }
    if edit.definition:
        differ = {
            definition
            for job in changed
            for definition in before[job] | now[job]
            if before[job].get(definition) != now[job].get(definition)
        }
        assert edit.definition in differ


@contextlib.contextmanager
def edited(package, edit):
    """Carry an edit out, and take it back."""
    files = {package / path for path, _, _ in edit.changes}
    texts = {file: file.read_text() if file.exists() else None for file in files}
    edit.apply(package)
    try:
        yield
    finally:
        for file, text in texts.items():
            if text is None:
                file.unlink()
            else:
                file.write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "a docstring", "the wording of a hub error", "a progress bar's text",
        "the cleaning of temporary files", "the choice of a GPU", "a function beside others",
        "a new family", "LLaVA's system prompt", "PaliGemma's prompt", "the attention tap",
        "the seed of the samples", "a signal beside others", "the AUROC",
        "the probe's penalties", "the effects", "the list of shards", "a figure",
        "the page's style",
    ],
)  # fmt: skip
def test_a_dry_run_plans_what_an_edit_changes_and_names_the_definition(finished, name):
    edit = EDITS[name]
    with edited(finished.folder / "src" / "vrp", edit):
        result = plan(finished)
    ours = edit.family in ("", "llava", "qwen2_vl")  # the study's models
    stages = edit.stages - {"p_true"} if ours else set()  # the study does not ask that
    assert set(result.planned) == set(stages).union(*(AFTER[stage] for stage in stages))
    module, _, inner = edit.definition.partition(":")
    reasons = [reason for stage in stages for reason in result.reasons(stage)]
    # The others follow from an input that runs again.
    reasons = [reason for reason in reasons if "Params have changed" in reason]
    assert bool(reasons) == bool(stages)
    said = re.findall(r"^(\w+)(?: of one)?: (.+) changed since it ran\.$", result.output, re.M)
    assert {stage for stage, _ in said} == stages
    assert all(edit.definition in names for _, names in said)
    for reason in reasons:
        # The edited module and no other; of a family, all that its model's jobs depend on.
        named = set(re.findall(r"'([a-z_.]+)': {", reason))
        assert module in named if edit.family else named == {module}
        assert f"'{inner}': '" in reason
        assert not edit.family or "model=one" in reason


# What `--config` changes, the stages that run again, the words of the first one's reason.
CONFIG_EDITS = [
    ("consistency={k: 4}", {"consistency", "gather"} | AFTER_METRICS,
     ("consistency", "consistency.k", 4)),
    ("metrics={bootstrap: 500}", AFTER_METRICS, ("metrics", "metrics.bootstrap", 500)),
    ("probes={sparse_c: 0.5}", AFTER_PROBES, ("probes", "probes.sparse_c", 0.5)),
    ("extract={capture: [attention]}", {"extract"} | AFTER_EXTRACT,
     ("extract", "extract.capture", ["attention"])),
    ("mask={items: 400}", {"mask"} | LISTED, ("mask", "mask.items", 400)),
    ("effects={sign_flips: 500}", JOINT, ("effects", "effects.sign_flips", 500)),
    ("figures={dpi: 90}", {"figures", "report"}, ("figures", "figures.dpi", 90)),
    ("report={title: T}", {"report"}, ("report", "report.title", "T")),
    ("explorer={image_pixels: 90}", {"explorer"}, ("explorer", "explorer.image_pixels", 90)),
    ("probes={penalties: [0.01]}", AFTER_PROBES,
     ("probes", "probes.penalties", [0.01])),
    ("ablate={items: 500}", {"ablate"} | LISTED, ("ablate", "ablate.items", 500)),
    # Items that no answer gets right are not sampled.
    ("scoring={vqa_threshold: 0.9}", ALL_BUT_FETCH, ("sample", "scoring.vqa_threshold", 0.9)),
    ("data={scenes: {n_vqa_images: 700}}", {"fetch_data", "report"} | ALL_BUT_FETCH,
     ("fetch_data", "data.scenes.n_vqa_images", 700)),
    ("seed=1", ALL_BUT_FETCH, ("sample", "seed", 1)),
    ("extract={max_new_tokens: 3}", ALL_OF_A_MODEL,
     ("extract", "extract.max_new_tokens", 3)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected", "cause"), CONFIG_EDITS)
def test_config_edit(finished, change, expected, cause):
    result = plan(finished, "--config", change)
    stage, key, value = cause
    assert set(result.planned) == expected
    for reason in result.reasons(stage):
        # The key before and now, and no other key.
        assert reason.count(f"'{key}': ") == 2
        assert f"{{'{key}': {value!r}}}" in reason
        assert set(re.findall(r"{'([a-z_]+(?:\.[a-z_]+)*)'", reason)) == {key}


@pytest.mark.parametrize("change", ["extract={batch_size: 8}", "consistency={batch_size: 8}"])
def test_how_a_stage_is_executed_reruns_nothing(finished, change):
    assert plan(finished, "--config", change).planned == {}


def test_another_item_count_samples_and_asks_again(finished):
    splits = "[{dataset: pope, split: random, task: existence, count: 50}]"
    result = plan(finished, "--config", f"sample={{splits: {splits}}}")
    assert set(result.planned) == ALL_BUT_FETCH
    (reason,) = result.reasons("sample")
    assert "sample.splits" in reason
    assert "'count': 50" in reason


def test_a_new_condition_reruns_the_ablation(finished):
    conditions = "[{kind: top, count: 7}, {kind: random, count: 7, seeds: 2}]"
    result = plan(finished, "--config", f"ablate={{conditions: {conditions}}}")
    assert set(result.planned) == {"ablate"} | LISTED
    for reason in result.reasons("ablate"):
        assert "ablate.conditions" in reason
        assert "'count': 7" in reason


def test_a_revision_fetches_and_reruns_one_model(finished):
    result = plan(finished, "--config", "models={one: {revision: abc}}")
    assert set(result.planned) == {"fetch_model", "extract", "blind", "consistency"} | AFTER_EXTRACT
    for stage in ("fetch_model", "extract", "metrics", "ablate"):
        for reason in result.reasons(stage):
            assert "model=one" in reason
    for reason in result.reasons("fetch_model"):
        assert "'models.one.revision': 'abc'" in reason


def test_without_the_blank_image_nothing_is_asked_again(finished):
    result = plan(finished, "--config", "extract={blind: false}")
    assert set(result.planned) == AFTER_METRICS
    for reason in result.reasons("metrics"):
        assert "Set of input files has changed" in reason


def test_without_the_interventions_nothing_is_asked_again(finished):
    off = [f"{stage}={{enabled: false}}" for stage in ("ablate", "mask", "trace")]
    result = plan(finished, "--config", *off)
    assert set(result.planned) == JOINT | {"explorer"}


def test_only_the_samples_are_listed_again(finished):
    result = plan(finished, "--config", "consistency={k: 4}")
    assert {re.search(r"stage=(\w+)", reason)[1] for reason in result.reasons("gather")} == {
        "consistency"
    }


@pytest.mark.parametrize("table", ["answers", "hidden", "blind/hidden"])
def test_deleted_shards_are_made_anew_when_asked_for(finished, table):
    shard = finished.folder / "results" / "tiny" / "one" / table / "001.parquet"
    moved = shard.rename(shard.with_suffix(".moved"))
    try:
        assert plan(finished).planned == {}
        result = plan(finished, "--forcerun", "gather", "--until", "gather")
    finally:
        moved.rename(shard)
    stage = "blind" if table.startswith("blind") else "extract"
    # The blank-image run waits for the list of the extraction, which is forced.
    assert result.planned == {stage: 1, "blind": 4, "gather": 6}
    if stage == "extract":
        assert "shard=001" in result.reasons(stage)[0]


def test_a_profile_reruns_nothing(finished):
    profile = finished.folder / "workflow" / "profiles" / "slurm" / "profile.yaml"
    before = profile.read_text()
    profile.write_text(
        before.replace("retries: 2", "retries: 5")
        + "\nset-resources:\n  extract:\n    runtime: 999\n"
    )
    try:
        assert profile.read_text() != before
        assert plan(finished, "--profile", "slurm").planned == {}
    finally:
        profile.write_text(before)


def test_a_prompt_reruns_one_model(finished):
    result = plan(finished, "--config", "models={one: {prompt: plain}}")
    assert set(result.planned) == ALL_OF_A_MODEL
    assert result.planned["extract"] == 2
    for reason in result.reasons("extract"):
        assert "model=one" in reason
        assert "'models.one.prompt': 'plain'" in reason


def test_other_layers_of_the_map_compute_one_models_signals_again(finished):
    result = plan(finished, "--config", "models={one: {map_layers: [2, 3]}}")
    assert set(result.planned) == AFTER_METRICS
    assert result.planned["metrics"] == 1
    assert "'models.one.map_layers': [2, 3]" in result.reasons("metrics")[0]


def test_a_new_model_leaves_the_others_alone(finished):
    new = "models={three: {family: paligemma, checkpoint: 'zoo:paligemma'}}"
    result = plan(finished, "--config", new)
    for stage in ("fetch_model", "extract", "metrics", "probes", "mask", "ablate"):
        assert all("model=three" in reason for reason in result.reasons(stage))
    assert "sample" not in result.planned
    assert set(result.planned) >= JOINT


def test_threads_and_memory_rerun_nothing(finished):
    result = plan(finished, "--set-threads", "extract=2", "--set-resources", "extract:mem_mb=9000")
    assert result.planned == {}


def test_forcing_one_stage(finished):
    result = plan(finished, "--forcerun", "probes")
    assert set(result.planned) == AFTER_PROBES
    assert plan(finished, "--forcerun", "probes", "--until", "probes").planned == {"probes": 2}


def test_a_refetched_equal_manifest_reruns_nothing(finished):
    arguments = ("--cores", "2", "--configfile", "config/tiny.yaml", "--forcerun", "fetch_data")
    result = finished.run(*arguments, "--until", "fetch_data")
    assert result.status == 0, result.output
    assert plan(finished).planned == {}


def test_a_failing_report_is_seen_and_leaves_its_log_and_the_last_report(finished):
    pages = [
        finished.folder / "results" / "tiny" / name for name in ("report.html", "summary.json")
    ]
    for page in pages:
        page.write_text(f"the last whole {page.name}")
    result = finished.run(
        "--cores", "1", "--configfile", "config/tiny.yaml", "--forcerun", "report",
        FAILING_STAGE="report",
    )  # fmt: skip
    assert result.status != 0
    assert "vrp report: nothing works today" in result.output
    log = finished.folder / "results" / "tiny" / "logs" / "report.log"
    assert "nothing works today" in log.read_text()
    assert [page.read_text() for page in pages] == [f"the last whole {p.name}" for p in pages]
    assert plan(finished).planned == {"report": 1}
    again = finished.run("--cores", "1", "--configfile", "config/tiny.yaml")
    assert again.status == 0, again.output
    assert all("the last whole" not in page.read_text() for page in pages)
    assert plan(finished).planned == {}

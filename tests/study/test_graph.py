"""The declared graph is complete, consistent, and what everything else derives from."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from vrp.cli import build_parser
from vrp.config.mask import MaskConfig
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.study.command import command_line, path_options
from vrp.study.context import UndeclaredError, restricted
from vrp.study.declarations import EXECUTION_KEYS, Stage
from vrp.study.graph import BOXES, LISTS, MADE_BY, STAGE, STAGES, n_stages_behind
from vrp.study.keys import stage_config, value_of
from vrp.study.layout import StudyLayout
from vrp.study.reference import stages_page
from vrp.tables.schema import TableSchema
from vrp.workflow.rules import StudyRules

ROOT = Path(__file__).parents[2]
STUDY = study_from_mapping(
    {
        "study": "tiny",
        "models": {
            name: {"family": "llava", "checkpoint": "zoo:llava", "revision": None}
            for name in ("one", "two")
        },
        "extract": {"shards": 3},
        "p_true": {"enabled": True},
    }
)
RUNS_A_MODEL = [stage for stage in STAGES if stage.runs_model]


def by_name(stage: Stage) -> str:
    return stage.name


@pytest.mark.parametrize("stage", STAGES, ids=by_name)
def test_a_stage_is_a_rule_a_command_and_a_module(stage):
    assert (ROOT / "workflow" / "rules" / f"{stage.name}.smk").is_file()
    run = importlib.import_module(f"vrp.stages.{stage.name}").run
    assert list(inspect.signature(run).parameters) == ["context"]
    assert run.__doc__
    assert f" {stage.command} " in build_parser().format_help().replace("\n", " ")


@pytest.mark.parametrize("stage", STAGES, ids=by_name)
def test_what_needs_the_network_or_takes_seconds_runs_where_snakemake_runs(stage):
    rule = (ROOT / "workflow" / "rules" / f"{stage.name}.smk").read_text()
    assert ("localrule: True" in rule) == stage.local


def test_no_model_takes_the_place_of_a_file_of_the_study():
    places = {artifact.path.split("/")[0] for artifact in MADE_BY} - {"{model}"}
    assert places >= {"figures", "models", "report.html"}
    for name in places:
        model = {name: {"family": "llava", "checkpoint": "zoo:llava"}}
        with pytest.raises(InputError, match=f"model name {name!r}"):
            study_from_mapping({"study": "a", "models": model})


def test_the_cluster_profile_names_stages_of_the_graph():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/profile.yaml").read_text())
    rules = set(STAGE) | {"gather_interventions"}
    named = {
        entry.partition("=")[0] if isinstance(entry, str) else entry
        for key in ("set-threads", "groups")
        for entry in profile.get(key, ())
    }
    assert named
    assert named <= rules


def test_there_are_no_other_rules_and_modules():
    rules = {path.stem for path in (ROOT / "workflow" / "rules").glob("*.smk")}
    modules = {path.stem for path in (ROOT / "src" / "vrp" / "stages").glob("*.py")}
    assert rules == set(STAGE)
    assert modules - {"__init__"} == set(STAGE)


def test_what_is_read_was_made_before():
    made: set[str] = set()
    for stage in STAGES:
        assert {artifact.name for artifact in stage.reads} <= made, stage.name
        assert not {artifact.name for artifact in stage.writes} & made, stage.name
        made |= {artifact.name for artifact in stage.writes}


@pytest.mark.parametrize("artifact", MADE_BY, ids=lambda artifact: artifact.name)
def test_a_table_has_a_schema_of_its_own_name(artifact):
    assert artifact.path.endswith(".parquet") == bool(artifact.schema)
    if artifact.schema:
        module, name = artifact.schema.split(":")
        schema = getattr(importlib.import_module(module), name)
        if not isinstance(schema, TableSchema):
            width = {"n_layers": 1, "d_model": 1, "dtype": "float32"}
            schema = schema(**{name: width[name] for name in inspect.signature(schema).parameters})
        assert artifact.name.split("/")[-1] == schema.name


def test_no_two_files_are_in_one_place_or_have_one_name():
    files = [*MADE_BY, *LISTS.values()]
    assert len({artifact.path for artifact in files}) == len(files)
    assert len({artifact.name for artifact in MADE_BY}) == len(MADE_BY)


@pytest.mark.parametrize("stage", STAGES, ids=by_name)
def test_declared_keys_exist(stage):
    declared = (*stage.keys, stage.shards_key, stage.batch_key, stage.items_key)
    for key in filter(None, declared):
        value_of(STUDY, key.replace("*", "one"))
    for key in EXECUTION_KEYS:
        value_of(STUDY, key.replace("*", "one"))


@pytest.mark.parametrize("stage", RUNS_A_MODEL, ids=by_name)
def test_results_do_not_depend_on_how_a_model_is_run(stage):
    section, key = stage.batch_key.split(".")
    changed = STUDY.model_copy(
        update={
            section: getattr(STUDY, section).model_copy(update={key: 3}),
            "models": {
                "one": STUDY.models["one"].model_copy(
                    update={"batch_size": 5, "device_map": "auto"}
                )
            },
        }
    )
    assert stage_config(changed, stage, "one") == stage_config(STUDY, stage, "one")


def test_other_keys_are_refused():
    study = restricted(STUDY, ("seed", "extract.shards", "models.*.family", "probes"))
    assert study.seed == 0
    assert study.extract.shards == 3
    assert study.models["one"].family == "llava"
    assert study.probes.folds == STUDY.probes.folds
    for read in (
        lambda: study.study,
        lambda: study.extract.batch_size,
        lambda: study.models["one"].dtype,
        lambda: study.mask,
    ):
        with pytest.raises(UndeclaredError, match="is not declared for this stage"):
            read()


def test_how_a_models_tables_are_analysed_is_declared_by_name():
    asking = restricted(STUDY, ("models.*",)).models["one"]
    assert asking.dtype == "float32"
    with pytest.raises(UndeclaredError, match=r"models\.\*\.map_layers is not declared"):
        asking.map_layers  # noqa: B018
    assert restricted(STUDY, ("models.*.map_layers",)).models["one"].map_layers is None
    stages = {s.name for s in STAGES if "models.*.map_layers" in stage_config(STUDY, s, "one")}
    assert stages == {"metrics"}


def test_methods_of_a_section_read_declared_keys_only():
    data = restricted(STUDY, ("data.images",)).data
    with pytest.raises(UndeclaredError, match=r"data\.folder is not declared"):
        data.folder  # noqa: B018


@pytest.mark.parametrize("stage", STAGES, ids=by_name)
def test_the_command_of_a_rule_is_understood_by_the_command_line(stage):
    """Every option that the rule spells is one of the subcommand's; the others are paths."""
    words = command_line(stage).split("2>&1")[0].split()
    spelt = {word for word in words if word.startswith("--")}
    subcommands: Any = build_parser()._subparsers
    parser = subcommands._group_actions[0].choices[stage.command]
    known = {option for action in parser._actions for option in action.option_strings}
    paths = {option.artifact.option for option in path_options(stage)}
    assert spelt | paths == known - {"-h", "--help"}


@pytest.mark.parametrize("stage", [one for one in STAGES if one.per != "list"], ids=by_name)
def test_a_stage_reads_and_writes_what_its_rule_declares(stage):
    """The rule's command names no table, so the study's layout must give the rule's own."""
    rules = StudyRules(STUDY)
    model, shard = next(iter(STUDY.models)), "000"
    declared = rules.inputs(stage.name) | rules.outputs(stage.name)
    for option in path_options(stage):
        patterns = declared[option.artifact.keyword]
        patterns = [patterns] if isinstance(patterns, str) else patterns
        of_job = [Path(one.replace("{model}", model).replace("{shard}", shard)) for one in patterns]
        one_model = "" if stage.per == "study" else model
        wanted = rules.layout.paths(option.artifact, model=one_model, shard=shard)
        assert of_job == (wanted if stage.wants(option.artifact, STUDY) else [])


def test_boxes_are_read_by_the_masking_that_hides_objects_alone():
    hides = MaskConfig(conditions=[{"kind": "object"}, {"kind": "random_object"}])
    for study, wants in ((STUDY, False), (STUDY.model_copy(update={"mask": hides}), True)):
        assert STAGE["mask"].wants(BOXES, study) == wants
        assert bool(StudyRules(study).inputs("mask")["boxes"]) == wants


def test_jobs_have_distinct_outputs_and_logs():
    jobs = list(StudyLayout(STUDY).jobs())
    outputs = [path for job in jobs for path in job.outputs]
    assert len(outputs) == len(set(outputs))
    assert len({job.log for job in jobs}) == len(jobs)
    assert sum(job.stage == "extract" for job in jobs) == 2 * 3
    assert sum(job.stage == "gather" for job in jobs) == 2 * len(LISTS)


def test_a_stage_that_is_switched_off_has_no_jobs_and_no_files():
    off = STUDY.model_copy(update={"mask": STUDY.mask.model_copy(update={"enabled": False})})
    layout = StudyLayout(off)
    assert "mask" not in {job.stage for job in layout.jobs()}
    assert layout.paths(LISTS["mask"]) == []
    assert layout.paths(LISTS["ablate"])


def test_the_page_of_stages_is_up_to_date():
    assert (ROOT / "docs" / "stages.md").read_text(encoding="utf-8") == stages_page()


def test_what_the_longest_chain_waits_for_comes_first():
    # extract, blind, metrics, probes, ablate, effects, figures, report
    assert n_stages_behind("extract") == 7
    assert n_stages_behind("report") == n_stages_behind("explorer") == 0
    assert n_stages_behind("blind") > n_stages_behind("probes") > n_stages_behind("mask")

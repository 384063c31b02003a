"""A misspelt rule or file on Snakemake's command line is named beside the nearest right one."""

import re
from pathlib import Path

import pytest

from vrp.config.study import StudyConfig, load_study, study_from_mapping
from vrp.errors import InputError
from vrp.study.graph import STAGES
from vrp.study.layout import StudyLayout
from vrp.workflow.targets import refuse_too_few_items, refuse_unknown_targets

CI = Path(__file__).parents[2] / "config" / "ci.yaml"
RULES = [*(stage.name for stage in STAGES), "all"]


@pytest.fixture(scope="module")
def layout() -> StudyLayout:
    study: StudyConfig = load_study(CI)
    return StudyLayout(study)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prbes"], "target: unknown rule 'prbes'; did you mean 'probes'"),
        (["-n", "--until", "metric"], "--until: unknown rule 'metric'; did you mean 'metrics'"),
        (["-U", "probes", "reprot"], "--until: unknown rule 'reprot'; did you mean 'report'"),
        (["--omit-from", "maks"], "--omit-from: unknown rule 'maks'; did you mean 'mask'"),
        (["-R", "zzz"], "--forcerun: unknown rule 'zzz' (known: fetch_data"),
        (["--prioritize", "al"], "--prioritize: unknown rule 'al'; did you mean 'all'"),
        (["all", "--", "sampel"], "target: unknown rule 'sampel'; did you mean 'sample'"),
        (["results/ci/report.htm"], "did you mean 'results/ci/report.html'"),
        (["results/ci/llava/answers/999.parquet"], "did you mean 'results/ci/llava/answers/"),
    ],
)
def test_an_unknown_name_is_refused(layout: StudyLayout, arguments: list[str], message: str):
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        refuse_unknown_targets(arguments, RULES, layout)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "--cores", "2", "--config", "seed=3"],
        ["all", "results/ci/report.html", "./results/ci/llava/answers/000.parquet"],
        ["--until", "probes", "--forcerun", "metrics", "-O", "gather", "--slurm-partition", "x"],
    ],
)
def test_a_known_one_is_not(layout: StudyLayout, arguments: list[str]):
    refuse_unknown_targets(arguments, RULES, layout)


def small(dataset: str = "pope", **keys: object) -> StudyConfig:
    task = {"pope": "existence", "own": "open"}[dataset]
    asked = [{"dataset": dataset, "split": "random", "task": task, "count": 4}]
    models = {"one": {"family": "llava", "checkpoint": "zoo:llava"}}
    origin = {"origin": "scenes" if dataset == "pope" else "local"}
    return study_from_mapping(
        {"study": "a", "models": models, "data": origin, "sample": {"splits": asked}, **keys}
    )


@pytest.mark.parametrize("arguments", [[], ["-n", "--cores", "2"], ["all"]])
def test_a_whole_study_of_fewer_items_than_folds_is_refused_at_once(arguments: list[str]):
    with pytest.raises(InputError, match=r"probes\.folds: 5 folds need .* has 4 at most"):
        refuse_too_few_items(arguments, small())
    refuse_too_few_items(arguments, small(probes={"folds": 4}))
    # Own questions may have no reference, and then no probe is fitted.
    refuse_too_few_items(arguments, small("own"))


@pytest.mark.parametrize("arguments", [["--until", "extract"], ["extract"], ["-O", "metrics"]])
def test_a_part_of_a_study_may_have_any_number_of_items(arguments: list[str]):
    refuse_too_few_items(arguments, small())

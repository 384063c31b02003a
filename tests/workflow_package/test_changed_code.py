"""What has changed in the code since stages ran is logged in one line a stage."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest

from vrp.config.study import study_from_mapping
from vrp.study.snakemake_records import recorded_params
from vrp.workflow import changed_code
from vrp.workflow.rules import StudyRules

MODELS = {
    "one": {"family": "llava", "checkpoint": "zoo:llava"},
    "two": {"family": "paligemma", "checkpoint": "zoo:paligemma"},
}


@pytest.fixture
def rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return StudyRules(study_from_mapping({"study": "tiny", "models": MODELS}))


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(changed_code, "logger", SimpleNamespace(info=lines.append))
    return lines


def record(rules, stage, edit=lambda params: params):
    """Write the outputs of a stage's first jobs, with records of what they were made with."""
    for job in rules.layout.jobs():
        if job.stage != stage:
            continue
        params = [
            param(SimpleNamespace(model=job.model)) if callable(param) else param
            for param in rules.rerun_params(stage)
        ]
        for path in job.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            name = urlsafe_b64encode(str(path).encode()).decode()
            file = Path(".snakemake", "metadata", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"params": [edit(repr(param)) for param in params]}))
            assert recorded_params(path, Path()) != []


def log(rules, *, is_main_process=True):
    changed_code.log_changed_code(SimpleNamespace(is_main_process=is_main_process), rules)


def test_nothing_is_said_where_nothing_changed(rules, logged):
    log(rules)
    for stage in ("extract", "metrics", "sample"):
        record(rules, stage)
    log(rules)
    assert logged == []


def test_the_definition_that_changed_is_named(rules, logged):
    record(
        rules, "extract", lambda text: text.replace("'last_query_rows': '", "'last_query_rows': 'x")
    )
    record(rules, "sample", lambda text: text.replace("'sample_split': ", "'sample_splits': "))
    log(rules, is_main_process=False)
    assert logged == []
    log(rules)
    assert logged == [
        "sample: vrp.data.item_sampling:sample_split, vrp.data.item_sampling:sample_splits "
        "changed since it ran.",
        "extract: vrp.vlm.attention_tap:last_query_rows changed since it ran.",
    ]


def test_the_models_are_named_where_it_concerns_some(rules, logged):
    record(rules, "extract", lambda text: text.replace("'PaliGemma': '", "'PaliGemma': 'x"))
    log(rules)
    assert logged == ["extract of two: vrp.vlm.families.paligemma:PaliGemma changed since it ran."]


def test_of_many_definitions_some_are_named(rules, logged):
    record(
        rules,
        "metrics",
        lambda text: text.replace("'vrp.stats.auroc': {'", "'vrp.stats.auroc': {'x"),
    )
    record(rules, "effects", lambda text: text.replace(": '", ": 'x"))
    log(rules)
    assert len(logged) == 2
    assert "more changed since it ran." in logged[1]


def test_params_of_another_kind_are_no_change(rules, logged):
    record(rules, "metrics", lambda text: "{'vrp.stages.metrics': '0123456789abcdef'}")
    log(rules)
    assert logged == []

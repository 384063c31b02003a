"""What a run says of its jobs."""

from types import SimpleNamespace

from vrp.study.graph import STAGE, STAGES
from vrp.workflow.job_messages import job_message, shorten_job_messages


def test_a_message_names_stage_model_and_shard():
    wildcards = SimpleNamespace(model="llava", shard="003", stage="extract")
    assert job_message("extract").format(wildcards=wildcards) == (
        f"extract llava 003: {STAGE['extract'].help}"
    )
    for rule in ("gather", "gather_interventions"):
        told = job_message(rule).format(wildcards=wildcards)
        assert told.startswith("gather llava extract: ")
    assert job_message("sample").startswith("sample: ")


def test_every_rule_gets_its_message():
    names = [*(stage.name for stage in STAGES), "gather_interventions", "all"]
    rules = [SimpleNamespace(name=name, message=None) for name in names]
    shorten_job_messages(SimpleNamespace(rules=rules))
    messages = [rule.message for rule in rules]
    assert all(messages)
    assert len(set(messages)) == len(names) - 1  # there are two rules for gather


def test_a_rule_of_ones_own_keeps_its_message():
    own = [SimpleNamespace(name="mine", message=text) for text in (None, "mine: counts words")]
    shorten_job_messages(SimpleNamespace(rules=own))
    assert [rule.message for rule in own] == [None, "mine: counts words"]

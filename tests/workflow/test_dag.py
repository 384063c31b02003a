"""The jobs that Snakemake plans are those of the declared graph, with its inputs and outputs."""

import pytest

from vrp.config.study import load_study
from vrp.study.graph import LISTS, MADE_BY, STAGE
from vrp.study.layout import StudyLayout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def declared_inputs(layout: StudyLayout, job) -> set[str]:
    """What the graph says that a job reads of what other jobs write."""
    if job.stage == "gather":
        tables = STAGE[job.shard].writes
        return {str(path) for one in tables for path in layout.paths(one, model=job.model)}
    # Tables in shards are read through the list of their stage's shards.
    stage = STAGE[job.stage]
    wanted = [artifact for artifact in stage.reads if stage.wants(artifact, layout.study)]
    read = {LISTS.get(MADE_BY[artifact].name, artifact) for artifact in wanted}
    return {
        str(path)
        for artifact in read
        for path in layout.paths(artifact, model=job.model, shard=job.shard)
    }


STUDIES = {
    "whole": "",
    "hiding objects": "mask: {conditions: [{kind: object}, {kind: random_object}]}\n",
    "sharded": "extract: {shards: 3}\nmask: {shards: 2}\nablate: {shards: 2}\n",
    "observing only": "mask: {enabled: false}\nablate: {enabled: false}\n",
    "without the blank image": "extract: {blind: false}\n",
}
MODELS = """
models:
  one: {family: llava, checkpoint: zoo:llava}
  two: {family: qwen2_vl, checkpoint: "zoo:qwen2_vl"}
"""


@pytest.mark.parametrize("name", STUDIES)
def test_snakemake_plans_the_jobs_of_the_graph(checkout, monkeypatch, name):
    config = checkout.folder / "config" / "planned.yaml"
    config.write_text(f"study: planned\n{MODELS}{STUDIES[name]}")
    result = checkout.run("-n", "--configfile", "config/planned.yaml")
    assert result.status == 0, result.output
    planned = result.jobs
    layout = StudyLayout(load_study(config))
    declared = {frozenset(map(str, job.outputs)): job for job in layout.jobs()}
    assert planned.keys() == declared.keys()
    made = set().union(*declared)
    for outputs, job in declared.items():
        found = planned[outputs]
        assert found["rule"] == {job.rule}
        assert found["log"] == {str(job.log)}
        assert found["benchmark"] == {str(job.benchmark)}
        assert found["input"] & made == declared_inputs(layout, job) & made, job

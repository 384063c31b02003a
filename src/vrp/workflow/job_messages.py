"""What a run says of each job: one line, in place of all its files, parameters and resources."""

from typing import Any

from vrp.study.graph import STAGE

_JOB = {
    "study": "",
    "model": " {wildcards.model}",
    "shard": " {wildcards.model} {wildcards.shard}",
    "list": " {wildcards.model} {wildcards.stage}",
}


def shorten_job_messages(workflow: Any) -> None:
    """Have each job announced by its stage, model and shard, and by what the stage does.

    Call it when a run starts: a dry run, which people read for the files and the reasons, keeps
    Snakemake's own blocks.

    Args:
        workflow: Snakemake's, planned.
    """
    for rule in workflow.rules:
        rule.message = job_message(rule.name) or rule.message


def job_message(rule: str) -> str | None:
    """Message of a rule's jobs, with Snakemake's wildcards; None: the rule is not the study's."""
    if rule == "all":
        return "the study is finished"
    stage = STAGE.get(rule.removesuffix("_interventions"))  # there are two rules for gather
    return f"{stage.name}{_JOB[stage.per]}: {stage.help}" if stage else None

"""Which definitions make finished jobs run again, in one line a stage.

Snakemake prints the params that differ, which for code are all definitions of a module with their
digests. This names those that have changed, before the workflow is planned.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snakemake.logging import logger

from vrp.study.digests import changed_definitions, in_words
from vrp.study.layout import Job
from vrp.study.snakemake_records import recorded_params
from vrp.workflow.rules import StudyRules


def log_changed_code(workflow: Any, rules: StudyRules) -> None:
    """Log of each stage that has run which definitions that it depends on have changed since.

    Args:
        workflow: Snakemake's, before it is planned.
        rules: those of the study.
    """
    if not workflow.is_main_process or not Path(".snakemake", "metadata").is_dir():
        return
    models_of: dict[tuple[str, str], list[str]] = {}
    for job in _first_jobs(rules):
        params = rules.params_of(job.stage, job.model)
        changed = changed_definitions(recorded_params(job.outputs[0], Path()), params)
        if changed:
            models_of.setdefault((job.stage, in_words(changed)), []).append(job.model)
    for (stage, names), models in models_of.items():
        some = models != [""] and len(set(models)) < len(rules.study.models)
        of = f" of {', '.join(dict.fromkeys(models))}" if some else ""
        logger.info(f"{stage}{of}: {names} changed since it ran.")


def _first_jobs(rules: StudyRules) -> Iterator[Job]:
    """Of each stage and model, the first job that has run; all shards have run the same code."""
    seen: set[tuple[str, str]] = set()
    for job in rules.layout.jobs():
        if (job.stage, job.model) not in seen and job.outputs[0].is_file():
            seen.add((job.stage, job.model))
            yield job

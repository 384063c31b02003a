"""SLURM jobs of a killed run that may still be in the queue."""

import sys
from pathlib import Path
from typing import Any

from snakemake.logging import logger

from snakemake_executor_plugin_vrp_slurm.queue import SlurmError, unfinished
from vrp.config.study import StudyConfig
from vrp.workflow.orphaned_outputs import submissions_of


def refuse_beside_slurm_jobs(workflow: Any, study: StudyConfig) -> None:
    """Refuse to work on results that SLURM jobs of a killed run still work on.

    Where jobs are submitted, the executor cancels those with the same outputs. A SLURM that does
    not answer is warned of, on the standard error.

    Args:
        workflow: Snakemake's.
        study: its configuration.

    Raises:
        SystemExit: there are such jobs.
    """
    if workflow.executor_plugin.name == "vrp-slurm":
        return
    try:
        runs = {one.run for one in submissions_of(study)}
        jobs = sorted(job for run in runs for job in unfinished(run))
    except SlurmError as error:
        logger.warning(f"Jobs of an earlier run may still be in SLURM's queue ({error}).")
        return
    if jobs:
        sys.exit(
            f"Error: {Path(study.results, study.study)}: SLURM jobs of an earlier run still work "
            f"here: end them with `scancel {' '.join(jobs)}`, or continue with `--profile slurm`. "
            "Nothing was changed."
        )

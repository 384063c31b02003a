"""The last whole report stays until the new one is whole.

Snakemake keeps outputs that are flagged `update` where their job fails, but records them as made.
"""

from pathlib import Path
from typing import Any

from snakemake.io import is_flagged


def mark_kept_outputs(workflow: Any) -> None:
    """Have the next run make again what this one was to make and has kept from an earlier one.

    Args:
        workflow: Snakemake's, at the end of a run that failed.
    """
    for job in workflow.dag.needrun_jobs():
        for path in job.output:
            if is_flagged(path, "update") and Path(path).exists():
                workflow.persistence._mark_incomplete(str(path), None)

"""The last whole report: it stays until the new one is whole, and a run ends with what it says.

Snakemake keeps outputs that are flagged `update` where their job fails, but records them as made.
"""

import json
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


def report_in_short(results: Path) -> list[str]:
    """Return what a study's report says, in a few lines; none where there is no report.

    Args:
        results: the study's folder.
    """
    try:
        summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
        lines = [str(line) for line in summary["in_short"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [*lines, f"Report: {results / 'report.html'}"]

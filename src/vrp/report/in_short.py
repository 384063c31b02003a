"""What a run ends with: what the report says in a few lines, or how to get one."""

import json
import shlex
from pathlib import Path


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
    explorer = results / "explorer.html"
    every_answer = [f"Every answer: {explorer}"] if explorer.exists() else []
    return [*lines, f"Report: {results / 'report.html'}", *every_answer]


def unfinished_in_short(results: Path) -> list[str]:
    """Return how to see what a failed run has finished; none where there are no numbers yet.

    Args:
        results: the study's folder.
    """
    if not any(results.glob("*/signals.parquet")):
        return []
    return [f"For a report of what is finished: vrp report {shlex.quote(str(results))}"]

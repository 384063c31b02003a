"""What a report says in a few lines: a run ends with it."""

import json
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
    return [*lines, f"Report: {results / 'report.html'}"]

"""What `snakemake --report` shows of a study: files, their headings, labels and captions."""

import functools
import mimetypes
import sys
from pathlib import Path, PurePath

from snakemake.io import report

from vrp.study.declarations import Artifact
from vrp.study.graph import EFFECTS, FIGURES, METRICS, PROBES, TRACE_EFFECTS
from vrp.tables.atomic_files import write_text

TABLES = (METRICS, PROBES, EFFECTS, TRACE_EFFECTS)
"""Tables that the report offers: what was found, and not what was measured on each item."""
CAPTIONS = Path(".snakemake", "captions")
"""Where captions are put for Snakemake to read, which takes them from files alone."""
# Snakemake offers what it knows as no text to be saved.
mimetypes.add_type("application/vnd.apache.parquet", ".parquet")
_SHOWN = {".svg": "image", ".csv": "numbers"}


def with_report_entry(made: Artifact, pattern: str) -> str:
    """Return an output with Snakemake's flag where its report is to show it.

    Of a figure it shows one image and the numbers; PNG and PDF would repeat the image.

    Args:
        made: what the output is.
        pattern: its path.
    """
    if made in TABLES:
        labels = {"table": made.help, "model": "{model}" if "{model}" in pattern else "all"}
        return _flagged(pattern, "../report/tables.rst", "Tables", labels)
    path = PurePath(pattern)
    if made != FIGURES or path.suffix not in _SHOWN:
        return pattern
    title, caption = _figures().get(path.stem, (path.stem, None))
    return _flagged(pattern, caption, "Figures", {"figure": title, "as": _SHOWN[path.suffix]})


def _flagged(pattern: str, caption: str | None, category: str, labels: dict[str, str]) -> str:
    flagged: str = report(pattern, caption=caption, category=category, labels=labels)
    return flagged


@functools.cache
def _figures() -> dict[str, tuple[str, str]]:
    """Name of a figure → title, and file of its caption; empty but where a report is asked for:
    figures are slow to import, and a plan needs neither."""
    if not any(word.partition("=")[0] == "--report" for word in sys.argv):
        return {}
    from vrp.plots.figures import load_figures

    found = {}
    for figure in load_figures():
        file = CAPTIONS.absolute() / f"{figure.name}.rst"
        write_text(file, f"{figure.caption}\n")
        found[figure.name] = (figure.title, str(file))
    return found

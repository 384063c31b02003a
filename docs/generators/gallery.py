"""The figures and the report of a finished default study, where there is one."""

import os
from pathlib import Path

from vrp.plots.figures import load_figures

_DEMO = Path(os.environ.get("VRP_DEMO", Path(__file__).parents[2] / "results" / "demo"))
_HEAD = """# Gallery

The figures of the default study (three tiny models on drawn scenes), as drawn by `make demo`.
"""
_NONE = """
This site was built without a finished default study, so the figures are missing: run `make demo`,
then `make docs`. A study draws these figures:
"""


def gallery_page() -> str:
    """Return the page."""
    shown = _figures()
    parts = [_HEAD]
    if not shown:
        parts.append(_NONE)
    elif (_DEMO / "report.html").is_file():
        parts.append("[The report](gallery/report.html) has them all, with every table.\n")
    for figure in load_figures():
        picture = (
            f"![{figure.title}](gallery/{figure.name}.svg)\n\n" if figure.name in shown else ""
        )
        parts.append(
            f"## {figure.title}\n\n{picture}{figure.caption}\n\nFile: `figures/{figure.name}`\n"
        )
    return "\n".join(parts)


def gallery_pictures() -> dict[str, Path]:
    """Return address → file of the demo's figures, and its report."""
    found = {f"gallery/{name}.svg": path for name, path in _figures().items()}
    report = _DEMO / "report.html"
    return {**found, "gallery/report.html": report} if found and report.is_file() else found


def _figures() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_DEMO.glob("figures/*.svg"))}

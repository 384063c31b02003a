"""Pages whose text stands elsewhere in the repository; links are rewritten for the site."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
INCLUDED = {
    "config/README.md": "configuration.md",
    "workflow/profiles/README.md": "profiles.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the repository → address on the site."""
_LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def included_pages() -> dict[str, str]:
    """Return address → page."""
    return {
        address: _LINK.sub(lambda link, source=source: _rewritten(link, source), _text(source))
        for source, address in INCLUDED.items()
    }


def _text(source: str) -> str:
    return (ROOT / source).read_text(encoding="utf-8")


def _rewritten(link: re.Match[str], source: str) -> str:
    """A link to a page of the site where there is one, or else the text alone."""
    _, text, target, place = link.groups()
    path = os.path.normpath(Path(source).parent / target)
    address = INCLUDED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
    return f"[{text}]({address}{place or ''})" if address else text

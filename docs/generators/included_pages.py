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
        address: for_the_site((ROOT / source).read_text(encoding="utf-8"), source, address)
        for source, address in INCLUDED.items()
    }


def for_the_site(text: str, source: str, address: str) -> str:
    """Return a page's text with links of the repository as links of the site.

    Args:
        text: Markdown.
        source: its file in the repository.
        address: where the site has it.
    """

    def rewritten(link: re.Match[str]) -> str:
        picture, words, target, place = link.groups()
        path = os.path.normpath(Path(source).parent / target)
        there = INCLUDED.get(path) or (path[5:] if path.startswith("docs/") else "")
        if not there:  # a file that the site does not have
            return words
        relative = os.path.relpath(there, Path(address).parent)
        return f"{picture}[{words}]({relative}{place or ''})"

    return _LINK.sub(rewritten, text)

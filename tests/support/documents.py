"""The project's documents: their links, and their blocks of code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HAND_WRITTEN = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "config" / "README.md",
        ROOT / "workflow" / "profiles" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
"""Every page that a person wrote, or that is committed."""
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<code>.*?)^ *```$",
    flags=re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of code on a page."""

    page: Path
    language: str
    """Such as `console`."""
    title: str
    """What stands over it; empty: nothing."""
    code: str
    """Its lines."""

    @property
    def name(self) -> str:
        """Names it among a test's parameters."""
        return f"{self.page.relative_to(ROOT)}:{self.code.strip().splitlines()[0][:40]}"


def blocks(*languages: str, pages: list[Path] | None = None) -> list[Block]:
    """Return the blocks of some languages on all pages, or on some."""
    return [
        Block(page, found["language"], found["title"] or "", found["code"])
        for page in pages or HAND_WRITTEN
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))
        if found["language"] in languages
    ]


def commands(block: Block) -> Iterator[str]:
    """Yield the commands of a console block: lines after `$ `, continued lines joined."""
    joined = block.code.replace("\\\n", " ")
    for line in joined.splitlines():
        if line.startswith("$ "):
            yield line[2:].strip()

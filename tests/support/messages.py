"""Every text of the package's source, with `…` where a value is put in."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


@cache
def texts() -> tuple[str, ...]:
    """Return all string literals and f-strings of both packages."""
    files = sorted(SOURCE.rglob("*.py"))
    return tuple(text for file in files for text in _texts(ast.parse(file.read_text("utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(map(str, parts))


def is_printed(message: str) -> bool:
    """Whether the parts of a message between `…` stand in one text of the source, in this order."""
    parts = [part.strip() for part in message.split("…") if part.strip()]
    return any(_in_order(parts, text) for text in texts())


def _in_order(parts: list[str], text: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True

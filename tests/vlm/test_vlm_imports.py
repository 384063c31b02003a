"""The modules of `vrp.vlm` import one another in one direction."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import vrp.vlm

ROOT = Path(vrp.vlm.__file__).parent
PACKAGE = "vrp.vlm"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


def _imported(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports, within functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules


def test_no_import_cycle() -> None:
    paths = {_name(path): path for path in ROOT.rglob("*.py")}
    graph = {name: _imported(path, set(paths)) for name, path in paths.items()}
    assert graph[f"{PACKAGE}.loading"] >= {f"{PACKAGE}.model", f"{PACKAGE}.verification"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError where there is one

"""What made a result: digests of the code that a stage runs and of the keys that it reads."""

import ast
import functools
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

_PACKAGE = "vrp"
# Distributions whose versions can change numbers.
_RECORDED = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")


def digest(value: Any) -> str:
    """SHA-256 of plain data (its sorted JSON), shortened to 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_digest(module: str) -> str:
    """Digest of a module of the package and of all package modules that it imports.

    Imports inside functions count too, and modules that a package discovers. Comments, docstrings
    and formatting do not: what is hashed is the syntax tree without docstrings, and the templates
    and other files of the packages.

    Args:
        module: such as `vrp.stages.probes`.
    """
    parts = [(name, _module_digest(name)) for name in sorted(import_closure(module))]
    return digest(parts)


def module_digests(module: str) -> dict[str, str]:
    """Digest of every module that `code_digest` covers: a difference names the edited module."""
    return {name: _module_digest(name)[:16] for name in sorted(import_closure(module))}


@functools.cache
def import_closure(module: str) -> frozenset[str]:
    """Names of all package modules that importing and running `module` can import."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or _source(name) is None:
            continue
        found.add(name)
        waiting.extend(_imports(name))
    return frozenset(found)


def provenance(
    *, study: str, stage: str, config: dict[str, Any], model: str = "", revision: str = ""
) -> dict[str, str]:
    """What is written into every table's metadata.

    Args:
        study: name of the study.
        stage: module name under `vrp.stages`.
        config: the keys that the stage reads.
        model: name of the model, where there is one.
        revision: the model's revision or digest of its weights.
    """
    versions = {name: importlib.metadata.version(name) for name in _RECORDED}
    versions["python"] = ".".join(str(part) for part in sys.version_info[:3])
    versions[_PACKAGE] = importlib.metadata.version(_PACKAGE)
    return {
        "study": study,
        "stage": stage,
        "model": model,
        "revision": revision,
        "config": digest(config),
        "code": code_digest(f"{_PACKAGE}.stages.{stage}"),
        "versions": json.dumps(versions, sort_keys=True),
    }


def _source(module: str) -> Path | None:
    """The module's file, found without importing it (a parent package's import could be heavy)."""
    root = Path(__file__).parent
    parts = module.split(".")
    if parts[0] != _PACKAGE:
        return None
    base = root.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _source(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _imports(module: str) -> set[str]:
    """Package modules named in import statements anywhere in a module, parents included."""
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "iter_modules":
            names |= _modules_of(module)  # a package that imports whatever it finds in itself
    inside = {name for name in names if name.split(".")[0] == _PACKAGE}
    parents = {name.rsplit(".", i)[0] for name in inside for i in range(1, name.count("."))}
    return inside | parents


def _modules_of(package: str) -> set[str]:
    path = _source(package)
    assert path is not None
    return {f"{package}.{found.stem}" for found in path.parent.glob("*.py")} - {
        f"{package}.__init__"
    }


def _data_files(module: str) -> list[Path]:
    """Files other than Python that ship in a package, such as templates.

    Model weights are left out: a model's manifest accounts for them.
    """
    path = _source(module)
    if path is None or path.name != "__init__.py":
        return []
    hidden = {"__pycache__", "weights"}
    return sorted(
        found
        for found in path.parent.rglob("*")
        if found.is_file() and found.suffix != ".py" and not hidden & set(found.parts)
    )


@functools.cache
def _module_digest(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        holds_docstring = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, holds_docstring) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    content = hashlib.sha256(ast.dump(tree).encode())
    for path in _data_files(module):
        content.update(path.read_bytes())
    return content.hexdigest()

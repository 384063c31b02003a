"""What made a result: digests of the code that a stage runs and of the keys that it reads."""

import ast
import functools
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = "vrp"
# Distributions whose versions can change numbers.
_RECORDED = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")

# A model's manifest accounts for its weights.
_NO_DATA = ("__pycache__", "weights")
_COPIES = ("~", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp")


def digest(value: Any) -> str:
    """SHA-256 of plain data (its sorted JSON), shortened to 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_digest(module: str) -> str:
    """Digest of a module of the package and of all package modules that it imports.

    Imports inside functions count too, and modules that a package discovers. Comments, docstrings
    (those of attributes, too) and formatting do not: what is hashed is the syntax tree without
    strings that stand alone, and the templates and other files that a module opens by its
    package's name. Python versions differ in their syntax trees, so another one digests otherwise.

    Args:
        module: such as `vrp.stages.probes`.
    """
    parts = [(name, _content(name).digest) for name in sorted(import_closure(module))]
    return digest(parts)


def module_digests(module: str) -> dict[str, str]:
    """Digest of every module that `code_digest` covers: a difference names the edited module."""
    return {name: _content(name).digest[:16] for name in sorted(import_closure(module))}


def data_files(module: str) -> tuple[Path, ...]:
    """Files of the package, not Python, that a module opens by its package's name.

    Found are `resources.files("<package>") / "<file or folder>"`, where `files` stands alone the
    whole package, and jinja2's `PackageLoader("<package>")`. Hidden files and editors' copies are
    left out; model weights are in a model's manifest.
    """
    return _content(module).data


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
        waiting.extend(_content(name).imports)
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
    root = Path(__file__).parent.parent
    parts = module.split(".")
    if parts[0] != _PACKAGE:
        return None
    base = root.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


class _Content(NamedTuple):
    """What one module is made of."""

    imports: frozenset[str]
    """Package modules named in import statements anywhere in it, parents included."""
    data: tuple[Path, ...]
    """Files that it opens by its package's name."""
    digest: str
    """SHA-256 of its syntax tree without docstrings, and of these files."""


@functools.cache
def _content(module: str) -> _Content:
    """Go once through the syntax tree of a module."""
    path = _source(module)
    assert path is not None
    walk = _Walk()
    walk.through(ast.parse(path.read_text(encoding="utf-8")))
    names = set(walk.names)
    if walk.discovers:  # a package that imports whatever it finds in itself
        names |= {f"{module}.{found.stem}" for found in path.parent.glob("*.py")}
        names.discard(f"{module}.__init__")
    inside = {name for name in names if name.split(".")[0] == _PACKAGE}
    parents = {name.rsplit(".", i)[0] for name in inside for i in range(1, name.count("."))}
    data = tuple(sorted({file for place in walk.places for file in _files_at(*place)}))
    content = hashlib.sha256("".join(walk.text).encode())
    for file in data:
        content.update(file.name.encode() + file.read_bytes())
    return _Content(frozenset(inside | parents), data, content.hexdigest())


# Nodes that can name a module or a file of the package.
_NAMING = frozenset({ast.Import, ast.ImportFrom, ast.Attribute, ast.BinOp, ast.Call})


class _Walk:
    """Writes a syntax tree down, without positions and docstrings, and notes what it names."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.names: set[str] = set()
        self.places: set[tuple[str, str]] = set()
        """Package and the file or folder in it that is opened; empty: any."""
        self.discovers = False
        self._narrowed: set[ast.AST] = set()

    def through(self, node: object) -> None:
        # Planning goes through all modules of the package: what is looked at most comes first.
        write = self.text.append
        if isinstance(node, ast.AST):
            kind = type(node)
            if kind in _NAMING:
                self._note(node)
            write(f"{kind.__name__}(")
            for name in kind._fields:
                value = getattr(node, name, None)
                if name == "body" and isinstance(value, list):
                    # A body that is nothing but a docstring is as good as `pass`.
                    value = [part for part in value if not _is_docstring(part)] or [ast.Pass()]
                write(f"{name}=")
                if value is None or isinstance(value, str):
                    write(f"{value!r},")
                else:
                    self.through(value)
            write(")")
        elif isinstance(node, list):
            write("[")
            for part in node:
                if not _is_docstring(part):
                    self.through(part)
            write("]")
        else:
            write(f"{node!r},")

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            self.names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            self.names.add(node.module)
            self.names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif _discovers(node):
            self.discovers = True
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            package, named = _argument(node.left, "files"), node.right
            if package and isinstance(named, ast.Constant) and isinstance(named.value, str):
                self.places.add((package, named.value))
                self._narrowed.add(node.left)
        elif package := _argument(node, "PackageLoader"):
            self.places.add((package, "templates"))
        elif node not in self._narrowed and (package := _argument(node, "files")):
            self.places.add((package, ""))


def _is_docstring(node: object) -> bool:
    """Whether it is a string that stands alone: of a module, class, function or attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _discovers(node: ast.AST) -> bool:
    """Whether it imports modules of its own package by names that are known only when it runs."""
    if isinstance(node, ast.Attribute):
        return node.attr == "iter_modules"
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module"


def _argument(node: ast.AST, function: str) -> str | None:
    """The package that a call of this function names first; None: it is no such call."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
    name = called.id if isinstance(called, ast.Name) else called
    package = node.args[0].value
    if name != function or not isinstance(package, str) or package.split(".")[0] != _PACKAGE:
        return None
    return package


def _files_at(package: str, place: str) -> list[Path]:
    """A file of a package, or all in one of its folders but for Python and editors' copies."""
    source = _source(package)
    if source is None:
        return []
    folder = source.parent
    found = [folder / place, *(folder / place).rglob("*")]
    return [path for path in found if path.is_file() and _counts(path.relative_to(folder))]


def _counts(path: Path) -> bool:
    hidden = any(part.startswith((".", "#")) or part in _NO_DATA for part in path.parts)
    return not hidden and not path.name.endswith(_COPIES) and path.suffix not in (".py", ".pyc")

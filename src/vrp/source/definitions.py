"""Definitions of Python source, read and not imported, and what names in it stand for.

A definition is a function, a method, a class without its methods, a module-level variable, or
statements that a module runs for their effect when it is imported.
"""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from vrp.source.syntax import (
    EXCEPTIONS,
    MESSAGE_EXCEPTIONS,
    Chain,
    base_chain,
    bindings_of,
    chain_of,
    imported_by,
    is_docstring,
    is_plain,
    is_type_checking,
    words_in,
)

if TYPE_CHECKING:
    from vrp.source.content import Content

# Bases outside the package that call no method of a class but those named like `__init__`.
_PASSIVE_BASES = frozenset(
    {"typing.NamedTuple", "typing.Protocol", "typing.Generic", "typing.TypedDict", "abc.ABC"}
    | {"enum.Enum", "enum.IntEnum", "enum.StrEnum"}
)
ALL = "*"
"""Stands for all definitions of a module, and for all arguments."""


class Uncounted(NamedTuple):
    """What cannot change a result beside what the language tells: names as `module:definition`."""

    definitions: Mapping[str, str] = {}
    """Definition → why. It is not followed, and statements that call it do not count;
    `module:*` stands for all of a module."""
    arguments: Mapping[str, Collection[str | int]] = {}
    """Definition → its arguments that only make messages: names, positions, or `*` for all."""

    def __contains__(self, definition: object) -> bool:
        name = str(definition)
        module, _, inner = name.partition(":")
        return (
            name in self.definitions
            or f"{module}:{ALL}" in self.definitions
            or f"{module}:{inner.split('.')[0]}" in self.definitions
        )


@dataclass(eq=False)
class Definition:
    """One definition; what it holds is read when it is first asked for."""

    module: "Module"
    name: str
    """As in the module: `attention_rows`, `VLM`, `VLM.decode`."""
    nodes: list[ast.stmt]
    members: "dict[str, Definition]" = field(default_factory=dict)
    """Methods and properties of a class."""
    is_effect: bool = False
    """Whether it is a statement that a module runs for its effect."""
    content: "Content | None" = None
    """What its text holds, once it has been read (`vrp.source.content`)."""

    @cached_property
    def id(self) -> str:
        """`module:name`."""
        return f"{self.module.name}:{self.name}"

    @cached_property
    def counts(self) -> bool:
        """Whether results can depend on it."""
        return self.id not in self.module.sources.uncounted

    @cached_property
    def bases(self) -> "list[Definition | str]":
        """Of a class: definitions of the package, names of others (`typing.NamedTuple`)."""
        nodes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        chains = [base_chain(base) for node in nodes for base in node.bases]
        meanings = [self.module.meaning(chain) for chain in chains]
        return [m.name if isinstance(m, Module) else m for m in meanings]

    @cached_property
    def calls_its_methods(self) -> bool:
        """Whether a base of this class may call methods that nobody names."""
        return any(
            base.calls_its_methods
            if isinstance(base, Definition)
            else base not in _PASSIVE_BASES and base not in EXCEPTIONS
            for base in self.bases
        )

    @cached_property
    def is_function(self) -> bool:
        """Whether it is a function."""
        return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in self.nodes)

    @cached_property
    def is_variable(self) -> bool:
        """Whether it is a variable of a module."""
        return any(
            isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) for node in self.nodes
        )

    @cached_property
    def is_logger(self) -> bool:
        """Whether it is a variable that holds a logger."""
        values = [getattr(node, "value", None) for node in self.nodes]
        return any(
            isinstance(value, ast.Call) and chain_of(value.func)[-1:] == ("getLogger",)
            for value in values
        )

    @cached_property
    def is_exception(self) -> bool:
        """Whether it is an exception class that holds no more than a message."""
        if "__init__" in self.members:
            return False
        return any(
            base.is_exception if isinstance(base, Definition) else base in MESSAGE_EXCEPTIONS
            for base in self.bases
        )


class Module:
    """The definitions of one module."""

    def __init__(self, sources: "Sources", name: str, path: Path) -> None:
        self.sources = sources
        self.name = name
        self.path = path
        self.definitions: dict[str, Definition] = {}
        self.aliases: dict[str, Chain] = {}
        """Imported name → module, and what is imported from it."""
        self.starred: list[str] = []
        self.imported: set[str] = set()
        """Modules that importing this one imports."""
        self._meanings: dict[Chain, Definition | Module | str] = {}
        self._effects: list[ast.stmt] = []
        self._add(ast.parse(path.read_bytes()).body)
        self.effects: list[Definition] = []
        """What it runs for its effect, named by what it calls."""
        for node in self._effects:
            self._add_effect(node)

    @property
    def package(self) -> str:
        """What relative imports are relative to."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]

    def meaning(self, chain: Chain) -> "Definition | Module | str":
        """What a name stands for in this module: of the package, or named by its origin.

        A name that is unknown here (a built-in one) stands for itself.
        """
        if chain not in self._meanings:
            self._meanings[chain] = chain[0] if chain else ""  # while it is found out: circles
            self._meanings[chain] = self._meaning(chain)
        return self._meanings[chain]

    def _meaning(self, chain: Chain) -> "Definition | Module | str":
        if not chain:
            return ""
        if chain[0] in self.definitions:
            return self.definitions[chain[0]]
        if chain[0] in self.aliases:
            return self.sources.meaning(self.aliases[chain[0]], chain[1:])
        for module in self.starred:
            found = self.sources.meaning((module,), chain)
            if not isinstance(found, str):
                return found
        return chain[0]

    def _add(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.Import() | ast.ImportFrom():
                    self.imported |= imported_by(node, self.package)
                    for name, origin in bindings_of(node, self.package):
                        if name == ALL:
                            self.starred.append(origin[0])
                        else:
                            self.aliases[name] = origin
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self._define(node.name, node)
                    if not is_plain(node):
                        self._effects.append(node)
                case ast.ClassDef():
                    self._add_class(node)
                case ast.If() if is_type_checking(node.test):
                    self._add(node.orelse)
                case ast.Expr() if is_docstring(node):
                    pass
                case ast.AnnAssign(value=None):
                    pass
                case _:
                    self._add_other(node)

    def _define(self, name: str, node: ast.stmt) -> Definition:
        definition = self.definitions.setdefault(name, Definition(self, name, []))
        definition.nodes.append(node)
        return definition

    def _add_class(self, node: ast.ClassDef) -> None:
        definition = self._define(node.name, node)
        for member in node.body:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{node.name}.{member.name}"
                of_name = definition.members.setdefault(member.name, Definition(self, name, []))
                of_name.nodes.append(member)
        if not is_plain(node):
            self._effects.append(node)

    def _add_other(self, node: ast.stmt) -> None:
        """Variables count by their names, other statements for their effect."""
        match node:
            case ast.Assign():
                assigns, parts = True, list[ast.AST](node.targets)
            case ast.AnnAssign() | ast.AugAssign():
                assigns, parts = True, [node.target]
            case _:
                assigns, parts = False, [node]
        names: list[str] = []
        for inner in (found for part in parts for found in ast.walk(part)):
            match inner:
                case ast.Name(ctx=ast.Store(), id=name):
                    names.append(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names.append(inner.name)
                case ast.Import() | ast.ImportFrom():
                    self.imported |= imported_by(inner, self.package)
                    names += [name for name, _ in bindings_of(inner, self.package)]
        for name in dict.fromkeys(names):
            self._define(name, node)
        if not (assigns and names):
            self._effects.append(node)

    def _add_effect(self, node: ast.stmt) -> None:
        calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
        name = f"<{' '.join([*(calls[:1] or ['statements']), *words_in(node)[:1]])}>"
        known = {effect.name: effect for effect in self.effects}
        if name in known:
            known[name].nodes.append(node)
        else:
            self.effects.append(Definition(self, name, [node], is_effect=True))


class Sources:
    """Packages and single files, by the names under which they are imported."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        uncounted: Uncounted,
        extensions: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """Name the source.

        Args:
            roots: top-level name → folder of the package, or the file.
            uncounted: what cannot change a result.
            extensions: module → file of modules that are imported before anything runs, to
                register what they hold.
        """
        self.roots = dict(roots)
        self.uncounted = uncounted
        self.extensions = tuple(extensions)
        for name, path in extensions.items():
            first, *inner = name.split(".")
            # The folder of the package that a module is in; a module alone is its file.
            levels = len(inner) + (path.stem == "__init__")
            self.roots[first] = path.parents[levels - 1] if levels else path
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """A module of the source; None where there is none of this name."""
        if name not in self._modules:
            path = self._path(name)
            self._modules[name] = None if path is None else Module(self, name, path)
        return self._modules[name]

    def definition(self, name: str) -> Definition:
        """The definition `module:name`.

        Raises:
            KeyError: there is none.
        """
        module_name, _, inner = name.partition(":")
        module = self.module(module_name)
        outer, _, member = inner.partition(".")
        if module is None or outer not in module.definitions:
            raise KeyError(name)
        found = module.definitions[outer]
        return found.members[member] if member else found

    def meaning(self, origin: Chain, rest: Chain) -> Definition | Module | str:
        """What attributes of an imported name stand for."""
        name, chain = origin[0], (*origin[1:], *rest)
        module = self.module(name)
        if module is None:
            return ".".join(origin)
        if not chain:
            return module
        found = module.meaning(chain)
        if not isinstance(found, str):
            return found
        if chain[0] in module.aliases:
            return found
        if self.module(f"{name}.{chain[0]}") is not None:
            return self.meaning((f"{name}.{chain[0]}",), chain[1:])
        return module.definitions.get("__getattr__", f"{name}.{chain[0]}")

    def _path(self, name: str) -> Path | None:
        first, *inner = name.split(".")
        root = self.roots.get(first)
        if root is None:
            return None
        if root.suffix == ".py":
            return None if inner else root
        base = root.joinpath(*inner)
        for path in (base.with_suffix(".py") if inner else base, base / "__init__.py"):
            if path.is_file():
                return path
        return None

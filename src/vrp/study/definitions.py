"""Definitions of Python source, read and not imported: what each one refers to, and its digest.

A definition is a function, a method, a class without its methods, a module-level variable, or the
statements that a module runs for their effect when it is imported. `Sources.reach` follows names
from an entry to all definitions that running it can depend on. Where the text alone does not tell,
more is reached rather than less:

- a class that is named anywhere may be instantiated; a method of it counts where any reached code
  has an attribute, or a string, of its name. All methods count of a class with a base outside the
  package, which may call them, and those named like `__init__`;
- a module that is handed on as a value counts whole;
- what importing a reached module runs for its effect counts.

What cannot change a result does not count: comments, docstrings, formatting, annotations outside
class bodies, and messages (arguments of exceptions, `print` to stderr, logging, progress bars).
"""

import ast
import builtins
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

Chain = tuple[str, ...]
"""A name and the attributes read from it: `("np", "linalg", "norm")`."""

_DIGEST_LENGTH = 8
# Bases outside the package that call no method of a class but those named like `__init__`.
_PASSIVE_BASES = frozenset(
    {"typing.NamedTuple", "typing.Protocol", "typing.Generic", "typing.TypedDict", "abc.ABC"}
    | {"enum.Enum", "enum.IntEnum", "enum.StrEnum"}
)
# Decorators that only wrap what they decorate; another one may register it somewhere.
_PLAIN_DECORATORS = frozenset(
    {"property", "setter", "getter", "deleter", "cached_property", "classmethod", "staticmethod"}
    | {"abstractmethod", "override", "overload", "final", "dataclass", "runtime_checkable"}
    | {"cache", "lru_cache", "wraps", "contextmanager", "no_grad", "inference_mode"}
)
_LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
_EXCEPTIONS = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
# Whose arguments are more than a message.
_DATA_EXCEPTIONS = (OSError, SystemExit, StopIteration, StopAsyncIteration)
_MESSAGE_EXCEPTIONS = frozenset(
    name for name, value in _EXCEPTIONS.items() if not issubclass(value, _DATA_EXCEPTIONS)
)
_ALL = "*"
_NO_DATA = ("__pycache__", "weights")  # a model's manifest accounts for its weights
_COPIES = ("~", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp")


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
            or f"{module}:{_ALL}" in self.definitions
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

    @cached_property
    def id(self) -> str:
        """`module:name`."""
        return f"{self.module.name}:{self.name}"

    @cached_property
    def counts(self) -> bool:
        """Whether results can depend on it."""
        return self.id not in self.module.sources.uncounted

    @cached_property
    def content(self) -> "Content":
        """What its text holds."""
        return _Reader(self).content()

    @property
    def whole_content(self) -> "Content":
        """What its text holds, with all that does not count but docstrings and annotations."""
        return _Reader(self, leaves_out=False).content()

    @cached_property
    def digest(self) -> str:
        """Hexadecimal digits that change with its text and with what its names stand for."""
        lines = [*self.content.text, *sorted(self.content.names)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_LENGTH]

    @cached_property
    def bases(self) -> "list[Definition | str]":
        """Of a class: definitions of the package, names of others (`typing.NamedTuple`)."""
        nodes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        chains = [_unsubscripted(base) for node in nodes for base in node.bases]
        meanings = [self.module.meaning(chain) for chain in chains]
        return [m.name if isinstance(m, Module) else m for m in meanings]

    @cached_property
    def calls_its_methods(self) -> bool:
        """Whether a base of this class may call methods that nobody names."""
        return any(
            base.calls_its_methods
            if isinstance(base, Definition)
            else base not in _PASSIVE_BASES and base not in _EXCEPTIONS
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
    def called_functions(self) -> "list[Definition]":
        """Functions of the package that its statements call."""
        calls = (c for node in self.nodes for c in ast.walk(node) if isinstance(c, ast.Call))
        found = (self.module.meaning(_chain(call.func)) for call in calls)
        return [one for one in found if isinstance(one, Definition) and one.is_function]

    @cached_property
    def variables(self) -> "set[Definition]":
        """Module-level variables that a function, or one that it names, names."""
        seen, waiting = {self}, [self]
        while waiting:
            for target in waiting.pop().content.targets:
                if target not in seen:
                    seen.add(target)
                    waiting += [target] if target.is_function else []
        return {one for one in seen if one.is_variable}

    @cached_property
    def registered_names(self) -> set[str]:
        """Names under which a statement may register: `name="…"` in it and in the variables and
        classes that it names, or else its first word."""
        named = [one for one in self.content.targets if not one.is_function]
        nodes = [node for one in (self, *named) for node in one.nodes]
        found = {word for node in nodes for word in _names_in(node)}
        return found or set([word for node in nodes for word in _words_in(node)][:1])

    @cached_property
    def is_logger(self) -> bool:
        """Whether it is a variable that holds a logger."""
        values = [getattr(node, "value", None) for node in self.nodes]
        return any(
            isinstance(value, ast.Call) and _chain(value.func)[-1:] == ("getLogger",)
            for value in values
        )

    @cached_property
    def is_exception(self) -> bool:
        """Whether it is an exception class that holds no more than a message."""
        if "__init__" in self.members:
            return False
        return any(
            base.is_exception if isinstance(base, Definition) else base in _MESSAGE_EXCEPTIONS
            for base in self.bases
        )


class Content(NamedTuple):
    """What the text of a definition holds."""

    text: list[str]
    """The syntax tree without what does not count."""
    names: set[str]
    """`name=what it stands for`, for every name that is not its own."""
    targets: "list[Definition]"
    """Definitions of the package that it names."""
    modules: "list[Module]"
    """Modules that it hands on as values."""
    mentions: set[str]
    """Attributes and strings, which may name methods."""
    imported: set[str]
    """Modules that it imports itself."""
    files: dict[str, Path]
    """`package:path` → files of the package that it opens."""


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
                    self._add_import(node)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self._define(node.name, node)
                    if not _is_plain(node):
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

    def _add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, origin in bindings_of(node, self.package):
            if name == _ALL:
                self.starred.append(origin[0])
            else:
                self.aliases[name] = origin

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
        if not _is_plain(node):
            self._effects.append(node)

    def _add_other(self, node: ast.stmt) -> None:
        """Variables count by their names, other statements for their effect."""
        names = [
            found.id
            for found in ast.walk(node)
            if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store)
        ]
        assigns = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for inner in () if assigns else ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.append(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                self.imported |= imported_by(inner, self.package)
                names += [name for name, _ in bindings_of(inner, self.package)]
        for name in dict.fromkeys(names):
            self._define(name, node)
        if not (assigns and names):
            self._effects.append(node)

    def _add_effect(self, node: ast.stmt) -> None:
        calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
        name = f"<{' '.join([*(calls[:1] or ['statements']), *_words_in(node)[:1]])}>"
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

    def reach(
        self,
        entries: Iterable[str],
        *,
        reads: Mapping[str, Sequence[str]] = MappingProxyType({}),
        values_of: tuple[str, Collection[str]] | None = None,
        registered: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> "Reached":
        """Follow names from entries to all that running them can depend on.

        Args:
            entries: `module:definition` each; `module:*` stands for all of a module.
            reads: definition → entries that it reads by names which its text does not hold.
            values_of: a class, of whose instance the entries are handed some fields: of the classes
                of what these hold, only methods and properties count, and only those named.
            registered: function by which extensions register → names that count; another function
                is not restricted.

        Raises:
            KeyError: there is no such entry.
        """
        reached = Reached(self, reads, registered)
        for extension in self.extensions:
            reached.import_module(extension)
        for entry in entries:
            reached.enter(entry)
        if values_of is not None:
            name, fields = values_of
            for held in self._classes_held(self.definition(name), fields):
                reached.wait_for_members(held)
        reached.follow()
        return reached

    def _classes_held(self, root: Definition, fields: Collection[str]) -> Iterator[Definition]:
        """A class, and all that the annotations and defaults of some of its fields name."""
        yield root
        seen: set[Definition] = set()
        waiting = [
            found
            for node in ast.walk(root.nodes[0])
            if isinstance(node, ast.AnnAssign) and _chain(node.target)[0] in fields
            for part in ast.walk(node.annotation)
            if isinstance(found := root.module.meaning(_chain(part)), Definition)
        ]
        while waiting:
            definition = waiting.pop()
            if definition in seen:
                continue
            seen.add(definition)
            if definition.bases:
                yield definition
            if not definition.is_function:
                waiting += definition.content.targets

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


class Reached:
    """What was reached from entries."""

    def __init__(
        self,
        sources: Sources,
        reads: Mapping[str, Sequence[str]],
        registered: Mapping[str, Collection[str]],
    ) -> None:
        self.definitions: dict[str, Definition] = {}
        """`module:name` → definition."""
        self.modules: dict[str, Module] = {}
        """All modules that are imported on the way, also those of which nothing counts."""
        self._sources = sources
        self._reads = reads
        self._registered = registered
        self._registrations: list[Definition] = []
        """Of extensions, while nothing is reached that they change."""
        self._mentions: set[str] = set()
        self._waiting_members: dict[str, list[Definition]] = {}
        self._new: list[Definition] = []
        self._seen: set[Definition] = set()

    @property
    def digests(self) -> dict[str, str]:
        """`module:name` → digest, `package:path` → digest of a file; sorted by name."""
        found = {name: definition.digest for name, definition in self.definitions.items()}
        for definition in self.definitions.values():
            for name, path in definition.content.files.items():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_LENGTH]
        return dict(sorted(found.items()))

    def enter(self, entry: str) -> None:
        """Reach an entry."""
        module_name, _, name = entry.partition(":")
        if name == _ALL:
            module = self._sources.module(module_name)
            if module is None:
                raise KeyError(entry)
            self._reach_module(module)
        else:
            self._reach(self._sources.definition(entry))

    def wait_for_members(self, definition: Definition) -> None:
        """Reach the members of a class that are named anywhere."""
        for name, member in definition.members.items():
            if name in self._mentions:
                self._reach(member)
            else:
                self._waiting_members.setdefault(name, []).append(member)

    def follow(self) -> None:
        """Follow everything that was reached and is not followed yet."""
        while self._new:
            self._follow(self._new.pop())
            if not self._new:
                for effect in [one for one in self._registrations if self._is_seen(one)]:
                    self._registrations.remove(effect)
                    self._reach(effect)

    def _follow(self, definition: Definition) -> None:
        content = definition.content
        for target in content.targets:
            self._reach(target)
        for module in content.modules:
            self._reach_module(module)
        for name in content.mentions - self._mentions:
            for member in self._waiting_members.pop(name, ()):
                self._reach(member)
        self._mentions |= content.mentions
        for name in content.imported:
            self.import_module(name)

    def _is_seen(self, effect: Definition) -> bool:
        """Whether something is reached that what an extension runs may change."""
        functions = effect.called_functions
        for function in functions:
            names = self._registered.get(function.id)
            own = effect.registered_names
            if names is not None and own and not own & set(names):
                return False
        changed = {variable for function in functions for variable in function.variables}
        return not changed or bool(changed & self._seen)

    def _reach(self, definition: Definition) -> None:
        if definition in self._seen:
            return
        self._seen.add(definition)
        if not definition.counts:
            return
        self.import_module(definition.module.name)
        for entry in self._reads.get(definition.id, ()):
            self.enter(entry)
        self.definitions[definition.id] = definition
        self._new.append(definition)
        if not definition.members:
            return
        for name, member in definition.members.items():
            if definition.calls_its_methods or _is_special(name) or not _is_plain(*member.nodes):
                self._reach(member)
        self.wait_for_members(definition)

    def _reach_module(self, module: Module) -> None:
        self.import_module(module.name)
        for definition in module.definitions.values():
            self._reach(definition)

    def import_module(self, name: str) -> None:
        """Run what importing a module, its packages and all that they import runs."""
        waiting = [] if name in self.modules else [name]
        while waiting:
            name = waiting.pop()
            if name in self.modules:
                continue
            module = self._sources.module(name)
            if module is None:
                continue
            self.modules[name] = module
            if name in self._sources.extensions:
                self._registrations += module.effects
            else:
                for effect in module.effects:
                    self._reach(effect)
            waiting += module.imported
            waiting.append(name.rpartition(".")[0])


class _Scope:
    """Names of a function, a class body or a comprehension."""

    def __init__(self, node: ast.AST | None, parent: "_Scope | None") -> None:
        self.node = node
        self.parent = parent
        self.bound: set[str] = set()
        self.elsewhere: set[str] = set()
        """Declared `global` or `nonlocal`."""
        self.loads: set[Chain] = set()
        self.aliases: dict[str, Chain] = {}
        """Imported name → module, and what is imported from it."""
        self.left_out: set[str] = set()
        """Names of functions for whose sake something was left out."""

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)


class _Reader:
    """Writes the syntax tree of a definition down and notes what it names."""

    def __init__(self, definition: Definition, *, leaves_out: bool = True) -> None:
        self._definition = definition
        self._leaves_out = leaves_out
        self._misled = False
        """Whether a name for whose sake something was left out is a local one."""
        self._module = definition.module
        self._sources = definition.module.sources
        self._text: list[str] = []
        self._mentions: set[str] = set()
        self._imported: set[str] = set()
        self._files: dict[str, Path] = {}
        self._opened: set[ast.AST] = set()
        """Calls that open a folder of which a narrower place is named."""
        self._origins: set[tuple[Chain, Chain]] = set()
        """Imported inside the definition: origin, and the attributes read from it."""
        self._strings: set[str] = set()
        """Strings that may name a module or a definition."""
        self._scope = _Scope(None, None)

    def content(self) -> Content:
        """Read the definition."""
        targets: dict[Definition, None] = {}
        for node in self._definition.nodes:
            if self._definition.is_effect and hasattr(node, "decorator_list"):
                targets[self._module.definitions[node.name]] = None  # type: ignore[attr-defined]
            elif isinstance(node, ast.ClassDef):
                self._class(node, methods=False)
            else:
                self._write(node)
        if self._misled:
            return self._definition.whole_content
        # Of a statement that is no definition itself: what it imports.
        self._origins |= {(origin, ()) for origin in self._scope.aliases.values()}
        names: set[str] = set()
        modules: dict[Module, None] = {}
        for name, meaning, rest in self._meanings():
            if isinstance(meaning, str):
                if meaning != name:
                    names.add(f"{name}={meaning}")
            elif isinstance(meaning, Module):
                modules[meaning] = None
                names.add(f"{name}={meaning.name}")
            elif meaning.counts:
                targets[meaning] = None
                self._mentions.update(rest)
                names.add(f"{name}={meaning.id}")
        targets.pop(self._definition, None)
        return Content(
            self._text, names, list(targets), list(modules), self._mentions, self._imported,
            self._files,
        )  # fmt: skip

    def _meanings(self) -> Iterator[tuple[str, Definition | Module | str, Chain]]:
        """Names, what they stand for, and the attributes read from them."""
        for chain in self._scope.loads:
            yield chain[0], self._module.meaning(chain), chain[1:]
        for origin, rest in self._origins:
            yield origin[-1], self._sources.meaning(origin, rest), rest
        for text in self._strings:
            module_name, _, name = text.partition(":")
            dotted = all(part.isidentifier() for part in module_name.split("."))
            module = self._sources.module(module_name) if dotted else None
            if module is not None and name in module.definitions:
                yield text, module.definitions[name], ()
            elif module is not None and not name:
                yield text, module, ()

    # Nodes

    def _write(self, value: object) -> None:
        # Planning goes through most of the package: what is met most comes first.
        if isinstance(value, ast.AST):
            visit = _VISITS.get(type(value))
            if visit is None:
                self._fields(value)
            else:
                visit(self, value)
        elif isinstance(value, list):
            self._text.append("[")
            for part in value:
                self._write(part)
            self._text.append("]")
        else:
            self._text.append(repr(value))

    def _fields(self, node: ast.AST, without: Collection[str] = ()) -> None:
        """Write a node; what is empty is left out, since Python versions add fields."""
        write = self._text.append
        write(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _NO_FIELDS or name in without:
                continue
            write(name)
            self._write(value)
        write(")")

    def _name(self, node: ast.Name) -> None:
        self._text.append(node.id)
        if isinstance(node.ctx, ast.Load):
            self._scope.loads.add((node.id,))
        else:
            self._scope.bound.add(node.id)

    def _attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain:
            self._text.append(".".join(chain))
            self._scope.loads.add(chain)
        else:
            self._mentions.add(node.attr)
            self._write(node.value)
            self._text.append(f".{node.attr}")

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        self._text.append(repr(value))
        if isinstance(value, str):
            if value.isidentifier():
                self._mentions.add(value)
            elif value.partition(".")[0] in self._sources.roots:
                self._strings.add(value)

    def _keyword(self, node: ast.keyword) -> None:
        self._text.append(f"{node.arg}=")
        self._write(node.value)

    def _pass(self, node: ast.Pass) -> None:
        """A body that is nothing but `pass` is as good as one that is nothing but a docstring."""

    def _expr(self, node: ast.Expr) -> None:
        if is_docstring(node):
            return
        if self._only_tells(node):
            self._leave_out(node.value.func)  # type: ignore[attr-defined]
        else:
            self._fields(node)

    def _if(self, node: ast.If) -> None:
        if is_type_checking(node.test):
            self._write(node.orelse)
            return
        start = len(self._text)
        self._fields(node)
        # A condition on which nothing depends but a message is part of the message.
        if all(map(self._only_tells, (*node.body, *node.orelse))) and not any(
            isinstance(part, ast.Call | ast.NamedExpr) for part in ast.walk(node.test)
        ):
            del self._text[start:]

    def _ann_assign(self, node: ast.AnnAssign) -> None:
        if self._scope.is_class:
            self._fields(node, without=("annotation",))
            if self._definition.calls_its_methods:  # a base that may make what a field holds
                self._write(node.annotation)
            else:
                self._text.append(ast.unparse(node.annotation))
        elif node.value is not None:
            self._fields(ast.Assign([node.target], node.value))

    def _raise(self, node: ast.Raise) -> None:
        self._text.append("raise")
        error = node.exc
        if isinstance(error, ast.Call) and not self._holds_data(error.func):
            self._leave_out(error.func)
            self._write(error.func)
        else:
            self._write(error)

    def _assert(self, node: ast.Assert) -> None:
        self._fields(node, without=("msg",))

    def _bin_op(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Div):
            package, place = _argument(node.left, "files"), node.right
            if package and isinstance(place, ast.Constant) and isinstance(place.value, str):
                self._open(package, place.value)
                self._opened.add(node.left)
        self._fields(node)

    def _call(self, node: ast.Call) -> None:
        if package := _argument(node, "PackageLoader"):
            self._open(package, "templates")
        elif node not in self._opened and (package := _argument(node, "files")):
            self._open(package, "")
        words = self._only_messages(node)
        if not words:
            self._fields(node)
            return
        self._leave_out(node.func)
        self._write(node.func)
        if _ALL not in words:
            self._write([arg for place, arg in enumerate(node.args) if place not in words])
            self._write([word for word in node.keywords if word.arg not in words])

    def _global(self, node: ast.Global | ast.Nonlocal) -> None:
        self._fields(node)
        self._scope.elsewhere.update(node.names)
        self._scope.loads.update((name,) for name in node.names)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._imported |= imported_by(node, self._module.package)
        for name, origin in bindings_of(node, self._module.package):
            self._scope.aliases[name] = origin
            if origin[0].partition(".")[0] not in self._sources.roots:
                self._text.append(f"import {name}={'.'.join(origin)}")

    def _except_handler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self._scope.bound.add(node.name)
        self._fields(node)

    def _match_capture(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self._scope.bound.add(name)
        self._fields(node)

    def _match_class(self, node: ast.MatchClass) -> None:
        self._mentions.update(node.kwd_attrs)
        self._fields(node)

    def _named_expr(self, node: ast.NamedExpr) -> None:
        self._write(node.value)
        self._text.append(f":={node.target.id}")
        scope = self._scope
        while isinstance(scope.node, _COMPREHENSIONS) and scope.parent is not None:
            scope = scope.parent
        scope.bound.add(node.target.id)

    # Scopes

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._text.append(type(node).__name__)
        arguments = node.args
        if not isinstance(node, ast.Lambda):
            self._scope.bound.add(node.name)
            self._text.append(node.name)
            self._write(node.decorator_list)
            if not _is_plain(node):  # it may look at them
                self._write([arg.annotation for arg in _all_arguments(arguments)])
        self._write(arguments.defaults)
        self._write(arguments.kw_defaults)
        self._enter(node)
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            of_kind = getattr(arguments, kind)
            names = [
                arg.arg for arg in (of_kind if isinstance(of_kind, list) else [of_kind]) if arg
            ]
            self._text.append(f"{kind} {' '.join(names)}")
            self._scope.bound.update(names)
        self._write(node.body)
        self._leave()

    def _class(self, node: ast.ClassDef, *, methods: bool = True) -> None:
        self._scope.bound.add(node.name)
        self._text.append(f"class {node.name}")
        for part in (node.decorator_list, node.bases, node.keywords):
            self._write(part)
        self._enter(node)
        for statement in node.body:
            if methods or not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                self._write(statement)
        self._leave()

    def _comprehension(self, node: Any) -> None:
        first = node.generators[0]
        self._text.append(type(node).__name__)
        self._write(first.iter)  # evaluated outside
        self._enter(node)
        self._write([first.target, first.ifs, first.is_async, node.generators[1:]])
        self._write([getattr(node, name) for name in node._fields if name != "generators"])
        self._leave()

    def _enter(self, node: ast.AST) -> None:
        self._scope = _Scope(node, self._scope)

    def _leave(self) -> None:
        """Hand what a scope does not bind itself on to the one around it."""
        scope, around = self._scope, self._scope.parent
        assert around is not None
        self._scope = around
        if not scope.is_class:
            self._misled |= bool(scope.left_out & (scope.bound - scope.elsewhere))
        around.left_out |= scope.left_out - scope.aliases.keys()
        while around.is_class and not scope.is_class and around.parent is not None:
            around = around.parent  # names of a class body are not seen in its functions
        for chain in scope.loads:
            name, rest = chain[0], chain[1:]
            if name in scope.aliases:
                self._origins.add((scope.aliases[name], rest))
            if name in scope.elsewhere or scope.is_class:
                around.loads.add(chain)
            elif name in scope.bound:
                self._mentions.update(rest)
            elif name not in scope.aliases:
                around.loads.add(chain)

    # What does not count

    def _meaning(self, function: ast.expr) -> Definition | Module | str:
        """What the name of a called function stands for; empty where it has none."""
        chain = _chain(function)
        scope: _Scope | None = self._scope if chain and self._leaves_out else None
        while scope is not None:
            if chain[0] in scope.aliases:
                return self._sources.meaning(scope.aliases[chain[0]], chain[1:])
            scope = scope.parent
        return self._module.meaning(chain) if chain and self._leaves_out else ""

    def _leave_out(self, function: ast.expr) -> None:
        """Note for whose sake something is left out: it may turn out to be a local name."""
        self._scope.left_out.update(_chain(function)[:1])

    def _holds_data(self, function: ast.expr) -> bool:
        """Whether this is an exception class that holds more than a message."""
        meaning = self._meaning(function)
        if isinstance(meaning, Definition):
            return bool(meaning.bases) and not meaning.is_exception
        known = isinstance(meaning, str) and meaning in _EXCEPTIONS
        return not self._leaves_out or (known and meaning not in _MESSAGE_EXCEPTIONS)

    def _only_messages(self, node: ast.Call) -> Collection[str | int]:
        """Arguments of a call that cannot change a result: names, positions, `*` for all."""
        meaning, uncounted = self._meaning(node.func), self._sources.uncounted
        if isinstance(meaning, Definition):
            return (_ALL,) if meaning.is_exception else uncounted.arguments.get(meaning.id, ())
        if isinstance(meaning, str) and meaning.startswith("tqdm."):
            return [word.arg for word in node.keywords if word.arg]
        if meaning == "typing.cast":
            return (0, "typ")  # the value is handed back as it is
        return (_ALL,) if meaning in _MESSAGE_EXCEPTIONS else ()

    def _only_tells(self, node: ast.stmt) -> bool:
        """Whether a statement is a call that only tells something, or cannot change a result."""
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        call = node.value
        chain, meaning = _chain(call.func), self._meaning(call.func)
        if isinstance(meaning, Definition):
            logs = meaning.is_logger and chain[-1] in _LOG_METHODS
            return logs or not meaning.counts
        if meaning == "print":
            places = [word.value for word in call.keywords if word.arg == "file"]
            return any(_chain(place)[-1:] == ("stderr",) for place in places)
        return meaning in ("logging", "warnings", "warnings.warn")

    # Files

    def _open(self, package: str, place: str) -> None:
        """Note the files at a place of a package of the source."""
        module = self._sources.module(package)
        if module is None:
            return
        folder = module.path.parent
        for path in sorted([folder / place, *(folder / place).rglob("*")]):
            inside = path.relative_to(folder)
            if path.is_file() and _is_data(inside):
                self._files[f"{package}:{inside.as_posix()}"] = path
                if path.suffix == ".j2":  # templates read attributes, too
                    words = re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8"))
                    self._mentions.update(words)


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NO_FIELDS = frozenset({"ctx", "kind", "type_comment"})
_VISITS: dict[type, Callable[[_Reader, Any], None]] = {
    ast.Name: _Reader._name,
    ast.Attribute: _Reader._attribute,
    ast.Constant: _Reader._constant,
    ast.Call: _Reader._call,
    ast.keyword: _Reader._keyword,
    ast.Expr: _Reader._expr,
    ast.If: _Reader._if,
    ast.AnnAssign: _Reader._ann_assign,
    ast.Raise: _Reader._raise,
    ast.Assert: _Reader._assert,
    ast.BinOp: _Reader._bin_op,
    ast.Pass: _Reader._pass,
    ast.Global: _Reader._global,
    ast.Nonlocal: _Reader._global,
    ast.Import: _Reader._import,
    ast.ImportFrom: _Reader._import,
    ast.ExceptHandler: _Reader._except_handler,
    ast.MatchAs: _Reader._match_capture,
    ast.MatchStar: _Reader._match_capture,
    ast.MatchMapping: _Reader._match_capture,
    ast.MatchClass: _Reader._match_class,
    ast.NamedExpr: _Reader._named_expr,
    ast.FunctionDef: _Reader._function,
    ast.AsyncFunctionDef: _Reader._function,
    ast.Lambda: _Reader._function,
    ast.ClassDef: _Reader._class,
    **dict.fromkeys(_COMPREHENSIONS, _Reader._comprehension),
}


def imported_by(node: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """Names of modules that a statement imports (and of what may be one)."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    module = _origin(node, package)
    return {module, *(f"{module}.{alias.name}" for alias in node.names)}


def bindings_of(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Chain]]:
    """Names that a statement binds → module, and what is imported from it."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, (_origin(node, package), alias.name)
        elif alias.asname:
            yield alias.asname, (alias.name,)
        else:
            first = alias.name.partition(".")[0]
            yield first, (first,)


def _origin(node: ast.ImportFrom, package: str) -> str:
    """The module that something is imported from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    around = parts[: len(parts) - node.level + 1]
    return ".".join([*around, *([node.module] if node.module else [])])


def is_docstring(node: ast.stmt) -> bool:
    """Whether it is a string that stands alone: of a module, class, function or attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition holds only for a type checker."""
    return _chain(test)[-1:] == ("TYPE_CHECKING",)


def _chain(node: ast.AST) -> Chain:
    """A name and the attributes read from it; empty for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def _unsubscripted(node: ast.expr) -> Chain:
    return _chain(node.value if isinstance(node, ast.Subscript) else node)


def _is_plain(*nodes: ast.stmt) -> bool:
    """Whether decorators only wrap what they decorate."""
    decorators = [found for node in nodes for found in getattr(node, "decorator_list", ())]
    calls = (found.func if isinstance(found, ast.Call) else found for found in decorators)
    return all(_chain(found)[-1:] and _chain(found)[-1] in _PLAIN_DECORATORS for found in calls)


def _words_in(node: ast.AST) -> list[str]:
    """Strings that are words, in their order."""
    values = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return [value for value in values if isinstance(value, str) and value.isidentifier()]


def _names_in(node: ast.AST) -> Iterator[str]:
    """Words that are given or assigned as `name`."""
    for part in ast.walk(node):
        match part:
            case (
                ast.keyword(arg="name", value=ast.Constant(value=str(word)))
                | ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(word)))
                | ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(word)))
            ):
                yield word


def _is_special(name: str) -> bool:
    """Whether the language calls a method: `__init__`, and `_missing_` of enumerations."""
    return name.startswith("_") and name.endswith("_")


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*found, *(arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None)]


def _argument(node: ast.AST, function: str) -> str | None:
    """The string that a call of this function is given first; None: it is no such call."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
    name = called.id if isinstance(called, ast.Name) else called
    package = node.args[0].value
    return package if name == function and isinstance(package, str) else None


def _is_data(path: Path) -> bool:
    """Whether a file is neither Python nor hidden nor an editor's copy."""
    hidden = any(part.startswith((".", "#")) or part in _NO_DATA for part in path.parts)
    return not hidden and not path.name.endswith(_COPIES) and path.suffix not in (".py", ".pyc")

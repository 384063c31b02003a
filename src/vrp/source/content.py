"""What a definition's text holds: what it names, and a digest of what can change a result.

What cannot change one does not count: comments, docstrings, formatting, annotations outside class
bodies, and messages (arguments of exceptions, `print` to stderr, logging, progress bars).
"""

# ruff: noqa: N815  methods are named after the nodes that they visit

import ast
import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vrp.source.definitions import ALL, Definition, Module
from vrp.source.syntax import (
    EXCEPTIONS,
    MESSAGE_EXCEPTIONS,
    Chain,
    all_arguments,
    bindings_of,
    chain_of,
    first_string,
    imported_by,
    is_docstring,
    is_plain,
    is_type_checking,
)

_DIGEST_LENGTH = 8
_LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
_NO_DATA = ("__pycache__", "weights")  # a model's manifest accounts for its weights
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Fields of nodes that say nothing of what runs; `msg` is an assertion's.
_NO_FIELDS = frozenset({"ctx", "kind", "type_comment", "msg"})
_COPIES = ("~", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp")


class Content(NamedTuple):
    """What the text of a definition holds."""

    digest: str
    """Hexadecimal digits that change with its text and with what its names stand for."""
    targets: list[Definition]
    """Definitions of the package that it names."""
    modules: list[Module]
    """Modules that it hands on as values."""
    mentions: set[str]
    """Attributes and strings, which may name methods."""
    imported: set[str]
    """Modules that it imports itself."""
    files: dict[str, Path]
    """`package:path` → files of the package that it opens."""


def content_of(definition: Definition) -> Content:
    """Return what a definition's text holds; it is read once."""
    if definition.content is None:
        definition.content = _Reader(definition).content()
    return definition.content


def whole_content_of(definition: Definition) -> Content:
    """Return the same with messages, which name what does not count."""
    return _Reader(definition, leaves_out=False).content()


def digest_of(data: bytes) -> str:
    """Return the first hexadecimal digits of a SHA-256."""
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]


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


class _Reader(ast.NodeVisitor):
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
                self.visit_ClassDef(node, methods=False)
            else:
                self._write(node)
        if self._misled:
            return whole_content_of(self._definition)
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
            digest_of("\n".join([*self._text, *sorted(names)]).encode()),
            list(targets), list(modules), self._mentions, self._imported, self._files,
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
        if isinstance(value, ast.AST):
            _VISITS.get(type(value), _Reader.generic_visit)(self, value)
        elif isinstance(value, list):
            self._text.append("[")
            for part in value:
                self._write(part)
            self._text.append("]")
        else:
            self._text.append(repr(value))

    def generic_visit(self, node: ast.AST, without: Collection[str] = ()) -> None:
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

    def visit_Name(self, node: ast.Name) -> None:
        self._text.append(node.id)
        if isinstance(node.ctx, ast.Load):
            self._scope.loads.add((node.id,))
        else:
            self._scope.bound.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = chain_of(node)
        if chain:
            self._text.append(".".join(chain))
            self._scope.loads.add(chain)
        else:
            self._mentions.add(node.attr)
            self._write(node.value)
            self._text.append(f".{node.attr}")

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        self._text.append(repr(value))
        if isinstance(value, str):
            if value.isidentifier():
                self._mentions.add(value)
            elif value.partition(".")[0] in self._sources.roots:
                self._strings.add(value)

    def visit_keyword(self, node: ast.keyword) -> None:
        self._text.append(f"{node.arg}=")
        self._write(node.value)

    def visit_Pass(self, node: ast.Pass) -> None:
        """A body that is nothing but `pass` is as good as one that is nothing but a docstring."""

    def visit_Expr(self, node: ast.Expr) -> None:
        if is_docstring(node):
            return
        if self._only_tells(node):
            self._leave_out(node.value.func)  # type: ignore[attr-defined]
        else:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if is_type_checking(node.test):
            self._write(node.orelse)
            return
        start = len(self._text)
        self.generic_visit(node)
        # A condition on which nothing depends but a message is part of the message.
        if all(map(self._only_tells, (*node.body, *node.orelse))) and not any(
            isinstance(part, ast.Call | ast.NamedExpr) for part in ast.walk(node.test)
        ):
            del self._text[start:]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._scope.is_class:
            self.generic_visit(node, without=("annotation",))
            if self._definition.calls_its_methods:  # a base that may make what a field holds
                self._write(node.annotation)
            else:
                self._text.append(ast.unparse(node.annotation))
        elif node.value is not None:
            self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Raise(self, node: ast.Raise) -> None:
        self._text.append("raise")
        error = node.exc
        if isinstance(error, ast.Call) and not self._holds_data(error.func):
            self._leave_out(error.func)
            self._write(error.func)
        else:
            self._write(error)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Div):
            package, place = first_string(node.left, "files"), node.right
            if package and isinstance(place, ast.Constant) and isinstance(place.value, str):
                self._open(package, place.value)
                self._opened.add(node.left)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if package := first_string(node, "PackageLoader"):
            self._open(package, "templates")
        elif node not in self._opened and (package := first_string(node, "files")):
            self._open(package, "")
        words = self._only_messages(node)
        if not words:
            self.generic_visit(node)
            return
        self._leave_out(node.func)
        self._write(node.func)
        if ALL not in words:
            self._write([arg for place, arg in enumerate(node.args) if place not in words])
            self._write([word for word in node.keywords if word.arg not in words])

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.generic_visit(node)
        self._scope.elsewhere.update(node.names)
        self._scope.loads.update((name,) for name in node.names)

    visit_Nonlocal = visit_Global

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._imported |= imported_by(node, self._module.package)
        for name, origin in bindings_of(node, self._module.package):
            self._scope.aliases[name] = origin
            if origin[0].partition(".")[0] not in self._sources.roots:
                self._text.append(f"import {name}={'.'.join(origin)}")

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self._scope.bound.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self._scope.bound.add(name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchMapping = visit_MatchAs

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self._mentions.update(node.kwd_attrs)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._write(node.value)
        self._text.append(f":={node.target.id}")
        scope = self._scope
        while isinstance(scope.node, _COMPREHENSIONS) and scope.parent is not None:
            scope = scope.parent
        scope.bound.add(node.target.id)

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._text.append(type(node).__name__)
        arguments = node.args
        if not isinstance(node, ast.Lambda):
            self._scope.bound.add(node.name)
            self._text.append(node.name)
            self._write(node.decorator_list)
            if not is_plain(node):  # it may look at them
                self._write([arg.annotation for arg in all_arguments(arguments)])
        self._write(arguments.defaults)
        self._write(arguments.kw_defaults)
        self._scope = _Scope(node, self._scope)
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            of_kind = getattr(arguments, kind) or []
            names = [arg.arg for arg in (of_kind if isinstance(of_kind, list) else [of_kind])]
            self._text.append(f"{kind} {' '.join(names)}")
            self._scope.bound.update(names)
        self._write(node.body)
        self._leave()

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef, *, methods: bool = True) -> None:
        self._scope.bound.add(node.name)
        self._text.append(f"class {node.name}")
        for part in (node.decorator_list, node.bases, node.keywords):
            self._write(part)
        self._scope = _Scope(node, self._scope)
        for statement in node.body:
            if methods or not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                self._write(statement)
        self._leave()

    def visit_ListComp(self, node: Any) -> None:
        first = node.generators[0]
        self._text.append(type(node).__name__)
        self._write(first.iter)  # evaluated outside
        self._scope = _Scope(node, self._scope)
        self._write([first.target, first.ifs, first.is_async, node.generators[1:]])
        self._write([getattr(node, name) for name in node._fields if name != "generators"])
        self._leave()

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

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
        chain = chain_of(function)
        if not (chain and self._leaves_out):
            return ""
        scope: _Scope | None = self._scope
        while scope is not None:
            if chain[0] in scope.aliases:
                return self._sources.meaning(scope.aliases[chain[0]], chain[1:])
            scope = scope.parent
        return self._module.meaning(chain)

    def _leave_out(self, function: ast.expr) -> None:
        """Note for whose sake something is left out: it may turn out to be a local name."""
        self._scope.left_out.update(chain_of(function)[:1])

    def _holds_data(self, function: ast.expr) -> bool:
        """Whether this is an exception class that holds more than a message."""
        meaning = self._meaning(function)
        if isinstance(meaning, Definition):
            return bool(meaning.bases) and not meaning.is_exception
        known = isinstance(meaning, str) and meaning in EXCEPTIONS
        return not self._leaves_out or (known and meaning not in MESSAGE_EXCEPTIONS)

    def _only_messages(self, node: ast.Call) -> Collection[str | int]:
        """Arguments of a call that cannot change a result: names, positions, `*` for all."""
        meaning, uncounted = self._meaning(node.func), self._sources.uncounted
        if isinstance(meaning, Definition):
            return (ALL,) if meaning.is_exception else uncounted.arguments.get(meaning.id, ())
        if isinstance(meaning, str) and meaning.startswith("tqdm."):
            return [word.arg for word in node.keywords if word.arg]
        if meaning == "typing.cast":
            return (0, "typ")  # the value is handed back as it is
        return (ALL,) if meaning in MESSAGE_EXCEPTIONS else ()

    def _only_tells(self, node: ast.stmt) -> bool:
        """Whether a statement is a call that only tells something, or cannot change a result."""
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        call = node.value
        chain, meaning = chain_of(call.func), self._meaning(call.func)
        if isinstance(meaning, Definition):
            logs = meaning.is_logger and chain[-1] in _LOG_METHODS
            return logs or not meaning.counts
        if meaning == "print":
            places = [word.value for word in call.keywords if word.arg == "file"]
            return any(chain_of(place)[-1:] == ("stderr",) for place in places)
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


# Planning reads most of the package: this takes two thirds of the time of `NodeVisitor.visit`.
_VISITS: dict[type, Callable[[_Reader, Any], None]] = {
    getattr(ast, name.removeprefix("visit_")): method
    for name, method in vars(_Reader).items()
    if name.startswith("visit_")
}


def _is_data(path: Path) -> bool:
    """Whether a file is neither Python nor hidden nor an editor's copy."""
    hidden = any(part.startswith((".", "#")) or part in _NO_DATA for part in path.parts)
    return not hidden and not path.name.endswith(_COPIES) and path.suffix not in (".py", ".pyc")

"""What is asked of Python's syntax trees: names, imports, decorators, strings."""

import ast
import builtins
from collections.abc import Iterator

Chain = tuple[str, ...]
"""A name and the attributes read from it: `("np", "linalg", "norm")`."""

# Decorators that only wrap what they decorate; another one may register it somewhere.
_PLAIN_DECORATORS = frozenset(
    {"property", "setter", "getter", "deleter", "cached_property", "classmethod", "staticmethod"}
    | {"abstractmethod", "override", "overload", "final", "dataclass", "runtime_checkable"}
    | {"cache", "lru_cache", "wraps", "contextmanager", "no_grad", "inference_mode"}
)
EXCEPTIONS = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
"""The built-in exceptions by their names."""
# Whose arguments are more than a message.
_DATA_EXCEPTIONS = (OSError, SystemExit, StopIteration, StopAsyncIteration)
MESSAGE_EXCEPTIONS = frozenset(
    name for name, value in EXCEPTIONS.items() if not issubclass(value, _DATA_EXCEPTIONS)
)
"""Names of the built-in exceptions that hold no more than a message."""


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
    return chain_of(test)[-1:] == ("TYPE_CHECKING",)


def chain_of(node: ast.AST) -> Chain:
    """A name and the attributes read from it; empty for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def base_chain(node: ast.expr) -> Chain:
    """The same of a base class, without its type arguments."""
    return chain_of(node.value if isinstance(node, ast.Subscript) else node)


def is_plain(*nodes: ast.stmt) -> bool:
    """Whether decorators only wrap what they decorate."""
    decorators = [found for node in nodes for found in getattr(node, "decorator_list", ())]
    calls = (found.func if isinstance(found, ast.Call) else found for found in decorators)
    return all(chain_of(found)[-1:] and chain_of(found)[-1] in _PLAIN_DECORATORS for found in calls)


def words_in(node: ast.AST) -> list[str]:
    """Strings that are words, in their order."""
    values = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return [value for value in values if isinstance(value, str) and value.isidentifier()]


def names_in(node: ast.AST) -> Iterator[str]:
    """Words that are given or assigned as `name`."""
    for part in ast.walk(node):
        match part:
            case (
                ast.keyword(arg="name", value=ast.Constant(value=str(word)))
                | ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(word)))
                | ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(word)))
            ):
                yield word


def is_special(name: str) -> bool:
    """Whether the language calls a method: `__init__`, and `_missing_` of enumerations."""
    return name.startswith("_") and name.endswith("_")


def all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    """Arguments of a function of all kinds."""
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*found, *(arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None)]


def first_string(node: ast.AST, function: str) -> str | None:
    """The string that a call of this function is given first; None: it is no such call."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
    name = called.id if isinstance(called, ast.Name) else called
    package = node.args[0].value
    return package if name == function and isinstance(package, str) else None

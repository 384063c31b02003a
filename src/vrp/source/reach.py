"""From entries to all definitions that running them can depend on.

Where the text alone does not tell, more is reached rather than less:

- a class that is named anywhere may be instantiated; a method of it counts where any reached code
  has an attribute, or a string, of its name. All methods count of a class with a base outside the
  package, which may call them, and those named like `__init__`;
- a module that is handed on as a value counts whole;
- what importing a reached module runs for its effect counts. Of what an extension runs, which
  registers something, only where something is reached that it changes.
"""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from vrp.source.content import content_of, digest_of
from vrp.source.definitions import ALL, Definition, Module, Sources
from vrp.source.syntax import chain_of, is_plain, is_special, names_in, words_in


def reach(
    sources: Sources,
    entries: Iterable[str],
    *,
    reads: Mapping[str, Sequence[str]] = MappingProxyType({}),
    values_of: tuple[str, Collection[str]] | None = None,
    registered: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> "Reached":
    """Follow names from entries to all that running them can depend on.

    Args:
        sources: where the definitions are.
        entries: `module:definition` each; `module:*` stands for all of a module.
        reads: definition → entries that it reads by names which its text does not hold.
        values_of: a class, of whose instance the entries are handed some fields: of the classes
            of what these hold, only methods and properties count, and only those named.
        registered: function by which extensions register → names that count; another function
            is not restricted.

    Raises:
        KeyError: there is no such entry.
    """
    reached = Reached(sources, reads, registered)
    for extension in sources.extensions:
        reached.import_module(extension)
    for entry in entries:
        reached.enter(entry)
    if values_of is not None:
        name, fields = values_of
        for held in _classes_held(sources.definition(name), fields):
            reached.wait_for_members(held)
    reached.follow()
    return reached


def _classes_held(root: Definition, fields: Collection[str]) -> Iterator[Definition]:
    """A class, and all that the annotations and defaults of some of its fields name."""
    yield root
    seen: set[Definition] = set()
    waiting = [
        found
        for node in getattr(root.nodes[0], "body", ())
        if isinstance(node, ast.AnnAssign) and chain_of(node.target)[0] in fields
        for part in ast.walk(node.annotation)
        if isinstance(found := root.module.meaning(chain_of(part)), Definition)
    ]
    while waiting:
        definition = waiting.pop()
        if definition in seen:
            continue
        seen.add(definition)
        if definition.bases:
            yield definition
        if not definition.is_function:
            waiting += content_of(definition).targets


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
        found = {
            name: content_of(definition).digest for name, definition in self.definitions.items()
        }
        for definition in self.definitions.values():
            for name, path in content_of(definition).files.items():
                found[name] = digest_of(path.read_bytes())
        return dict(sorted(found.items()))

    def enter(self, entry: str) -> None:
        """Reach an entry."""
        module_name, _, name = entry.partition(":")
        if name == ALL:
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
            # What an extension registers counts once what it changes is reached; it may add more.
            if not self._new:
                for effect in [one for one in self._registrations if self._is_seen(one)]:
                    self._registrations.remove(effect)
                    self._reach(effect)

    def _follow(self, definition: Definition) -> None:
        content = content_of(definition)
        for target in content.targets:
            self._reach(target)
        for module in content.modules:
            self._reach_module(module)
        # Without types, `x.name` may be the method of any class that is reached.
        for name in content.mentions - self._mentions:
            for member in self._waiting_members.pop(name, ()):
                self._reach(member)
        self._mentions |= content.mentions
        for name in content.imported:
            self.import_module(name)

    def _is_seen(self, effect: Definition) -> bool:
        """Whether something is reached that what an extension runs may change."""
        functions = _called_functions(effect)
        for function in functions:
            names = self._registered.get(function.id)
            own = _registered_names(effect)
            if names is not None and own and not own & set(names):
                return False
        changed = {variable for function in functions for variable in _variables_of(function)}
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
            if definition.calls_its_methods or is_special(name) or not is_plain(*member.nodes):
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
            # Importing a module imports its packages first.
            waiting.append(name.rpartition(".")[0])


def _called_functions(effect: Definition) -> list[Definition]:
    """Functions of the package that its statements call."""
    calls = (c for node in effect.nodes for c in ast.walk(node) if isinstance(c, ast.Call))
    found = (effect.module.meaning(chain_of(call.func)) for call in calls)
    return [one for one in found if isinstance(one, Definition) and one.is_function]


def _variables_of(function: Definition) -> set[Definition]:
    """Module-level variables that a function, or one that it names, names."""
    seen, waiting = {function}, [function]
    while waiting:
        for target in content_of(waiting.pop()).targets:
            if target not in seen:
                seen.add(target)
                waiting += [target] if target.is_function else []
    return {one for one in seen if one.is_variable}


def _registered_names(effect: Definition) -> set[str]:
    """Names under which a statement may register: `name="…"` in it and in the variables and
    classes that it names, or else its first word."""
    named = [one for one in content_of(effect).targets if not one.is_function]
    nodes = [node for one in (effect, *named) for node in one.nodes]
    found = {word for node in nodes for word in names_in(node)}
    return found or set([word for node in nodes for word in words_in(node)][:1])

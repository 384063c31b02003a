"""Every key of the configuration, written down from the types: a table for people, a schema.

`python -m vrp.config.reference config` rewrites config/README.md and config/schema.json; with
`--check` it changes nothing and exits 1 where they differ from the types.
"""

import argparse
import inspect
import json
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vrp.config.section import Section, section_in
from vrp.config.study import StudyConfig

_BEGIN = "<!-- keys: begin, written by `python -m vrp.config.reference config` -->"
_END = "<!-- keys: end -->"
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


class Key(NamedTuple):
    """One key of the configuration."""

    path: str
    """Dotted, such as `extract.shards`; `*` is a name that the user chooses, `[]` a list entry."""
    type: str
    """What it takes, in words."""
    default: str
    """Its default as YAML would write it; `required` where there is none."""
    meaning: str
    """What it does, from the field's own docstring."""


def all_keys(section: type[Section] = StudyConfig, prefix: str = "") -> Iterator[Key]:
    """All keys of a section and of the sections in it, in the order of their definition."""
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        path = f"{prefix}{name}{_SUFFIX[_container(field.annotation)]}"
        if inner is None or _container(field.annotation) == "list":
            shown = f"{prefix}{name}" if inner is None else path
            meaning = field.description or _first_line(inner)
            yield Key(shown, _type(field), _default(field), " ".join(meaning.split()))
        if inner is not None:
            yield from all_keys(inner, f"{path}.")


def markdown_table() -> str:
    """The keys as Markdown: one table for every section."""
    sections: dict[str, list[Key]] = {}
    for key in all_keys():
        head = key.path.split(".")[0] if "." in key.path else ""
        sections.setdefault(head, []).append(key)
    parts = []
    for head, found in sections.items():
        if head:
            name = head.removesuffix("[]")
            inner = section_in(StudyConfig.model_fields[name].annotation)
            parts += [f"### `{name}`", "", _first_line(inner), ""]
        else:
            parts += ["### The study", ""]
        parts += ["| key | takes | default | meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{key.path}` | {_cell(key.type)} | {_code(key.default)} | {_cell(key.meaning)} |"
            for key in found
        ]
        parts.append("")
    return "\n".join(parts)


def json_schema() -> str:
    """The configuration's JSON schema, as editors use it for completion and checks."""
    schema = StudyConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def with_table(readme: str) -> str:
    """The README's text with the present table between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    if readme.count(_BEGIN) != 1 or readme.count(_END) != 1:
        raise ValueError(f"the README must hold the lines {_BEGIN!r} and {_END!r} once each")
    before, rest = readme.split(_BEGIN)
    after = rest.split(_END)[1]
    return f"{before}{_BEGIN}\n\n{markdown_table()}\n{_END}{after}"


_SUFFIX = {"one": "", "list": "[]", "map": ".*"}


def _container(annotation: Any) -> Literal["one", "list", "map"]:
    origin = get_origin(annotation)
    if origin in (tuple, list):
        return "list"
    return "map" if origin is dict else "one"


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    words, null = _type_words(field.annotation), " or `null`"
    optional = words.endswith(null)
    words = " ".join([words.removesuffix(null), ", ".join(bounds)]).strip()
    return words + null if optional else words


def _type_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{_yaml(value)}`" for value in arguments)
    if origin is Annotated:
        return _type_words(arguments[0])
    if origin is dict:
        return f"mapping of names to {_type_words(arguments[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_type_words(inner) for inner in arguments)
    if origin in (tuple, list):
        return f"list of {_type_words(arguments[0])}"
    if annotation is type(None):
        return "`null`"
    if section_in(annotation) is not None:
        return "entries"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple) and value and isinstance(value[0], Section):
        entries = (entry.model_dump(exclude_defaults=True) for entry in value)
        return "; ".join(
            ", ".join(f"{name}: {_yaml(inner)}" for name, inner in entry.items())
            for entry in entries
        )
    return _yaml(value)


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_yaml(inner) for inner in value)}]"
    return str(value)


def _first_line(section: type[Section] | None) -> str:
    return (inspect.getdoc(section) or "").split("\n\n")[0].replace("\n", " ") if section else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return text if text == "required" else f"`{_cell(text)}`"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or check the two files."""
    parser = argparse.ArgumentParser(prog="python -m vrp.config.reference", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of README.md and schema.json")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    options = parser.parse_args(arguments)
    readme = options.folder / "README.md"
    wanted = {
        readme: with_table(readme.read_text(encoding="utf-8")),
        options.folder / "schema.json": json_schema(),
    }
    for path, text in wanted.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            sys.exit(f"{path} differs from the types; run: python -m vrp.config.reference config")
        path.write_text(text, encoding="utf-8")
        print(f"{path}: written")


if __name__ == "__main__":
    main()

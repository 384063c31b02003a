"""Rows of answer files that anyone made, whatever JSON holds them, with every nested field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrp.data.answer_fields import ANSWER_KEYS, Scalar, canonical, names_id, names_number
from vrp.data.json_input import Record, as_record, keys_shown, printable, read_values
from vrp.errors import InputError

_LISTS = (
    "answers", "results", "predictions", "outputs", "responses", "data", "samples", "logs",
    "records", "rows", "items", "annotations", "questions",
)  # fmt: skip
"""Under which an object wraps its rows, where it holds several lists."""
IN_GROUP = "in group"
"""Key of rows that one object holds in groups: the group's name."""
_DEEPEST = 8
_LONGEST_LIST = 32


@dataclass
class Column:
    """One field of all rows."""

    path: str
    """Its key; levels are joined by a dot, and places in lists of several are levels."""
    name: str
    """The path in lower case with underscores, places in lists left out."""
    values: dict[int, Scalar] = field(default_factory=dict)
    """Row → value, where there is one."""


@dataclass(frozen=True)
class AnswerTable:
    """The rows of one file, by row and by field."""

    path: Path
    rows: list[Record]
    columns: dict[str, Column]

    @property
    def span(self) -> range:
        """Places of the rows."""
        return range(len(self.rows))

    def where(self, row: int) -> str:
        """File and line (or row) of a row."""
        return self.rows[row].where


def read_rows(path: Path) -> list[Record]:
    """The rows of a JSON list, JSON lines, an object that wraps rows or maps ids to texts.

    Raises InputError saying what the file is where it holds no rows.
    """
    values = read_values(path)
    wrapped = _rows_of(values[0].value, path) if len(values) == 1 else None
    return wrapped or [as_record(value) for value in values]


def as_table(path: Path, rows: Sequence[Record]) -> AnswerTable:
    """Rows with their fields as columns; null is no value, a list of one is its element."""
    columns: dict[str, Column] = {}
    for row, record in enumerate(rows):
        for place, value in _leaves(record.fields, "", 0):
            while place in columns and row in columns[place].values:
                place += "+"  # a key with a dot, and the level that it looks like
            if place not in columns:
                columns[place] = Column(place, canonical(place))
            columns[place].values[row] = value
    return AnswerTable(path, list(rows), columns)


def _leaves(value: Any, place: str, depth: int) -> Iterator[tuple[str, Scalar]]:
    if depth > _DEEPEST or value is None:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(value, list):
        if len(value) == 1:
            yield from _leaves(value[0], place, depth + 1)
        elif len(value) <= _LONGEST_LIST:
            for i, inner in enumerate(value):
                yield from _leaves(inner, f"{place}.{i}", depth + 1)
    else:
        yield place, value


def _rows_of(value: Any, path: Path) -> list[Record] | None:
    """The rows that one object holds; None: it is a row itself, or no object."""
    if not isinstance(value, dict) or (_is_row(value) and not _wraps_rows(value)):
        return None
    rows = (
        _from_columns(value, path)
        or _from_lists(value, path, maps=False)
        or _from_map(value, path)
        or _from_lists(value, path, maps=True)
    )
    if rows is None:
        raise InputError(
            f"{path}: one JSON object with keys {keys_shown(Record(str(path), value))}; give a "
            "list of objects, one an answer, or one object that maps ids to texts"
        )
    return rows


def _is_row(value: Mapping[str, Any]) -> bool:
    return any(
        (names_id(canonical(key)) or canonical(key) in ANSWER_KEYS) and _is_text(inner)
        for key, inner in value.items()
    )


def _wraps_rows(value: Mapping[str, Any]) -> bool:
    """Whether an object without an id holds rows, and its texts are notes about them."""
    lists = [inner for inner in value.values() if isinstance(inner, list) and len(inner) > 1]
    return not any(names_id(canonical(key)) for key in value) and any(
        all(isinstance(row, dict) and _is_row(row) for row in rows) for rows in lists
    )


def _is_text(value: Any) -> bool:
    """Whether a value is a text or number, or a list of one."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, str | int | float)


def _names_field(key: str) -> bool:
    name = canonical(key)
    return names_id(name) or names_number(name) or name in ANSWER_KEYS


def _from_columns(value: Mapping[str, Any], path: Path) -> list[Record] | None:
    """Rows of an object that holds all values of a field together, as pandas writes them."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        names, rows = [str(name) for name in value["columns"]], value["data"]
    elif len(value) > 1 and any(map(_names_field, value)):
        columns = list(value.values())
        if all(isinstance(column, dict) for column in columns):
            if any(list(column) != list(columns[0]) for column in columns):
                return None
            columns = [list(column.values()) for column in columns]
        if not all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
            return None
        names, rows = list(value), [list(row) for row in zip(*columns, strict=True)]
    else:
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    return [
        Record(f"{path}, row {i}", dict(zip(names, row, strict=True)))
        for i, row in enumerate(rows, 1)
    ]


def _from_lists(
    value: Mapping[str, Any], path: Path, *, maps: bool, depth: int = 0
) -> list[Record] | None:
    """Rows of the one list that an object wraps, or of the lists of several splits.

    ``maps``: objects that map ids to texts count as lists.
    """
    found = {
        key: rows
        for key, inner in value.items()
        if (rows := _wrapped(inner, path, key, maps=maps, depth=depth))
    }
    if len(found) > 1:
        usual = [name for name in _LISTS if name in found]
        texts = [key for key, rows in found.items() if _is_row(rows[0].fields)]
        if not usual and len(texts) == len(found):
            return [
                Record(row.where, {IN_GROUP: key} | row.fields)
                for key, rows in found.items()
                for row in rows
            ]
        found = {key: found[key] for key in (usual if len(usual) == 1 else texts)} or found
    if len(found) > 1:
        keys = " and ".join(map(printable, found))
        raise InputError(
            f"{path}: one JSON object with lists under the keys {keys}; give the list of answers "
            "alone"
        )
    return next(iter(found.values()), None)


def _wrapped(inner: Any, path: Path, key: str, *, maps: bool, depth: int) -> list[Record] | None:
    if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
        return [Record(f"{path}, {printable(key)} row {i}", row) for i, row in enumerate(inner, 1)]
    if not isinstance(inner, dict) or _is_row(inner) or depth > _DEEPEST:
        return None
    return (
        _from_columns(inner, path)
        or (_from_map(inner, path) if maps else None)
        or _from_lists(inner, path, maps=maps, depth=depth + 1)
    )


def _from_map(value: Mapping[str, Any], path: Path) -> list[Record] | None:
    """Rows of an object that maps ids to texts or to rows."""
    if 2 * sum(any(map(str.isdigit, key)) for key in value) <= len(value):
        return None  # settings, not ids
    if all(map(_is_text, value.values())) and any(
        isinstance(v, str | list) for v in value.values()
    ):
        return [
            Record(f"{path}, key '{printable(key)}'", {"question_id": key, "answer": text})
            for key, text in value.items()
        ]
    if all(isinstance(row, dict) and _is_row(row) for row in value.values()):
        return [
            Record(f"{path}, key '{printable(key)}'", {"key": key} | row)
            for key, row in value.items()
        ]
    return None

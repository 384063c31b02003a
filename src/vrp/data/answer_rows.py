"""Rows of answer files that anyone made, whatever JSON holds them, with every nested field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrp.data.answer_fields import ANSWER_KEYS, Scalar, canonical, names
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

    def names(self, what: str) -> bool:
        """Whether its name says that it holds an id, a question … (see `answer_fields.names`)."""
        return names(what, self.name)


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
    value = values[0][1]
    if len(values) > 1 or not isinstance(value, dict) or (_is_row(value) and not _wraps(value)):
        return [as_record(value) for value in values]
    rows = _rows_in(value, str(path), maps=False) or _rows_in(value, str(path), maps=True)
    if not rows:
        raise InputError(
            f"{path}: one JSON object with keys {keys_shown(Record(str(path), value))}; give a "
            "list of objects, one an answer, or one object that maps ids to texts"
        )
    return rows


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


def _is_row(value: Mapping[str, Any]) -> bool:
    return any(
        (names("id", canonical(key)) or canonical(key) in ANSWER_KEYS) and _is_text(inner)
        for key, inner in value.items()
    )


def _wraps(value: Mapping[str, Any]) -> bool:
    """Whether an object without an id holds rows, and its texts are notes about them."""
    lists = [inner for inner in value.values() if isinstance(inner, list) and len(inner) > 1]
    return not any(names("id", canonical(key)) for key in value) and any(
        all(isinstance(row, dict) and _is_row(row) for row in rows) for rows in lists
    )


def _is_text(value: Any) -> bool:
    """Whether a value is a text or number, or a list of one."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, str | int | float)


def _rows_in(value: Any, where: str, *, maps: bool, depth: int = 0) -> list[Record]:
    """Rows of a list, or of the one list or the lists of several splits that an object wraps.

    ``maps``: objects that map ids to texts or rows count as lists.
    """
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return [Record(f"{where} row {i}", row) for i, row in enumerate(value, 1)]
    if not isinstance(value, dict) or (depth and _is_row(value)) or depth > _DEEPEST:
        return []
    if rows := _from_columns(value, where) or (_from_map(value, where) if maps else []):
        return rows
    found = {
        key: rows
        for key, inner in value.items()
        if (rows := _rows_in(inner, f"{where}, {printable(key)}", maps=maps, depth=depth + 1))
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
            f"{where}: one JSON object with lists under the keys {keys}; give the list of answers "
            "alone"
        )
    return [
        Record(row.where, _beside(value, key) | row.fields)
        for key, rows in found.items()
        for row in rows
    ]


def _beside(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What an object says of all rows under one of its keys: the key itself, and notes beside it
    that may name the split.
    """
    notes = {
        other: note
        for other, note in value.items()
        if isinstance(note, str) and names("split", canonical(other))
    }
    return notes if key in _LISTS else notes | {IN_GROUP: key}


def _from_columns(value: Mapping[str, Any], where: str) -> list[Record]:
    """Rows of an object that holds all values of a field together, as pandas writes them."""
    columns = [list(c.values()) if isinstance(c, dict) else c for c in value.values()]
    indices = {tuple(column) for column in value.values() if isinstance(column, dict)}
    of_one_kind = len(set(map(type, value.values()))) == 1 and all(
        isinstance(c, list) and len(c) == len(columns[0]) for c in columns
    )
    named = any(
        names("id", name) or names("number", name) or name in ANSWER_KEYS
        for name in map(canonical, value)
    )
    if len(columns) < 2 or len(indices) > 1 or not of_one_kind or not named:
        return []
    rows = (dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True))
    return [Record(f"{where}, row {i}", row) for i, row in enumerate(rows, 1)]


def _from_map(value: Mapping[str, Any], where: str) -> list[Record]:
    """Rows of an object that maps ids to texts or to rows."""
    if 2 * sum(any(map(str.isdigit, key)) for key in value) <= len(value):
        return []  # settings, not ids
    rows: dict[str, dict[str, Any]] = {}
    inner = value.values()
    if all(map(_is_text, inner)) and any(isinstance(one, str | list) for one in inner):
        rows = {key: {"question_id": key, "answer": text} for key, text in value.items()}
    elif all(isinstance(row, dict) and _is_row(row) for row in inner):
        rows = {key: {"key": key} | row for key, row in value.items()}
    return [Record(f"{where}, key '{printable(key)}'", row) for key, row in rows.items()]

"""Reading JSON and JSON lines that others wrote: every fault named by file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from vrp.errors import InputError

_MOST_SHOWN = 8


class Record(NamedTuple):
    """One object of a JSON-lines file or of a JSON array."""

    where: str
    """File and line (or row), to open an error message with."""
    fields: dict[str, Any]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (a byte-order mark is skipped).

    Raises InputError where the file is missing, unreadable or not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path in the configuration"
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 text; convert the file (iconv -t UTF-8)"
        ) from error


def read_json(
    path: Path, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """The one JSON object that a file holds. Raises InputError where there is none."""
    value = _parse(read_text(path), str(path), object_hook=object_hook)
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a JSON {_kind(value)}, not an object; wrong file?")
    return value


def read_records(path: Path) -> list[Record]:
    """The objects of a JSON-lines file, or of a file that is one JSON array of objects.

    Blank lines are skipped. Raises InputError that names file and line (row of an array) where
    something is not a JSON object, and where there is no record at all.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        rows = [(f"{path}, row {i}", row) for i, row in enumerate(_parse(text, str(path)), 1)]
    else:
        _refuse_other_formats(text, path)
        # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
        lines = [(f"{path}, line {i}", line) for i, line in enumerate(text.split("\n"), 1)]
        rows = [(where, _parse(line, where)) for where, line in lines if line.strip()]
    if not rows:
        raise InputError(f"{path}: holds no records; expected one JSON object a line")
    for where, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON {_kind(row)}, not an object; one object a line")
    return [Record(where, row) for where, row in rows]


def keys_shown(record: Record) -> str:
    """The keys of a record for a message: the first few in order, and how many more there are."""
    keys = sorted(record.fields)
    more = f" and {len(keys) - _MOST_SHOWN} more" if len(keys) > _MOST_SHOWN else ""
    return ", ".join(keys[:_MOST_SHOWN]) + more if keys else "nothing"


def text_field(record: Record, key: str) -> str:
    """A non-empty string field. Raises InputError naming file, line and key."""
    wanted = "a non-empty string"
    value = _present(record, key, wanted)
    if not isinstance(value, str) or not value.strip():
        _refuse(record.where, key, value, wanted)
    return _encodable(record.where, key, value)


def id_field(record: Record, key: str) -> str:
    """An identifier (integer or string) as a string. Raises InputError naming file, line, key."""
    wanted = "an integer or a non-empty string"
    value = _present(record, key, wanted)
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        _refuse(record.where, key, value, wanted)
    return _encodable(record.where, key, str(value).strip())


def answers_field(record: Record, key: str) -> list[str]:
    """A list of answers, each a string or an object that holds one under ``answer``.

    Raises InputError naming file, line and key.
    """
    wanted = "a list of answers"
    value = _present(record, key, wanted)
    if not isinstance(value, list):
        _refuse(record.where, key, value, wanted)
    return [_answer(record.where, key, row) for row in value]


def _answer(where: str, key: str, row: object) -> str:
    answer = row.get("answer") if isinstance(row, dict) else row
    if not isinstance(answer, str):
        _refuse(where, key, answer, "a list of strings")
    return _encodable(where, key, answer)


def _present(record: Record, key: str, wanted: str) -> Any:
    if key not in record.fields:
        raise InputError(
            f"{record.where}: key '{key}' is missing (found: {keys_shown(record)}); "
            f"expected {wanted}"
        )
    return record.fields[key]


def _refuse_other_formats(text: str, path: Path) -> None:
    """Say of CSV and the like that it is no JSON, rather than which character is wrong in it."""
    lines = [line for line in text.split("\n", 2) if line.strip()]
    line = lines[0].strip() if lines else "{"
    if line[0] not in '{"':
        try:
            json.loads(line)
        except ValueError:
            shown = line if len(line) <= 40 else line[:39] + "…"
            raise InputError(
                f"{path}: expected JSON or JSON lines, found {shown!r}; "
                "convert it to one JSON object a line"
            ) from None


def _refuse(where: str, key: str, value: object, wanted: str) -> NoReturn:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    raise InputError(f"{where}: key '{key}' is {shown}; expected {wanted}")


def _encodable(where: str, key: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: key '{key}' holds half a surrogate pair; rewrite it") from error
    return value


def _parse(
    text: str, where: str, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        place = where if ", line " in where else f"{where}, line {error.lineno}"
        raise InputError(
            f"{place}, column {error.colno}: malformed JSON ({error.msg}); mend or re-download"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise InputError(f"{where}: JSON that cannot be read ({error}); mend the file") from error


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")

"""Reading JSON and JSON lines that others wrote: every fault named by file and line."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vrp.data.file_kinds import binary_kind, text_kind
from vrp.errors import InputError

_SPACE = re.compile(r"[ \t\r\n]*")
_MAX_SHOWN = 8
_LONGEST_KEY = 80
_MAX_BYTES = 1 << 32
"""What a compressed file may unpack to: ten times the largest official one."""


class Record(NamedTuple):
    """One object of a JSON-lines file or of a JSON array."""

    where: str
    """File and line (or row), to open an error message with."""
    fields: dict[str, Any]


Located = tuple[str, Any]
"""File and line (or row), and the value there."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, also compressed with gzip; UTF-16 and UTF-32 are told by their
    first bytes, and a byte-order mark is skipped.

    Raises InputError where the file is missing, unreadable, damaged or no text, saying what it is.
    """
    try:
        data = _unpacked(path.read_bytes(), path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path in the configuration"
        ) from error
    if kind := binary_kind(data):
        raise InputError(f"{path}: expected JSON or JSON lines, but the file is {kind}")
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 text; convert the file (iconv -t UTF-8)"
        ) from error


def _unpacked(data: bytes, path: Path) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            unpacked = file.read(_MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); download it again") from error
    if len(unpacked) > _MAX_BYTES:
        raise InputError(f"{path}: unpacks to more than 4 GiB; is it the right file?")
    return unpacked


def read_json(
    path: Path, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """The one JSON object that a file holds. ``object_hook``: makes something else of each object.

    Raises InputError where there is none, and where one says one key twice with two values.
    """

    def made(pairs: list[tuple[str, Any]]) -> Any:
        fields = _unique(pairs)
        return object_hook(fields) if object_hook else fields

    values = _texts(path, json.JSONDecoder(object_pairs_hook=made, parse_constant=_null))
    if not values:
        raise InputError(f"{path}: empty, so malformed JSON; fix it or download it again")
    if len(values) > 1:
        raise InputError(f"{path}: holds JSON lines, not one object; wrong file?")
    value = values[0][1]
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a JSON {_kind(value)}, not an object; wrong file?")
    return value


def read_values(path: Path) -> list[Located]:
    """The values of a JSON array, of JSON lines, or of JSON texts one after the other.

    A file that is one object holds one value. Raises InputError naming file and line where
    something is not JSON, says one key twice with two values, or where there is nothing.
    """
    values = _texts(path, _DECODER)
    if all(isinstance(value, list) for _, value in values):
        rows = (row for _, of_list in values for row in of_list)
        values = [(f"{path}, row {i}", row) for i, row in enumerate(rows, 1)]
    if not values:
        raise InputError(f"{path}: holds no records; expected one JSON object per line")
    return values


def read_records(path: Path) -> list[Record]:
    """The objects of a JSON-lines file, or of a file that is one JSON array of objects.

    Raises InputError as `read_values`, and naming file and line (row) of what is no object.
    """
    return [as_record(value) for value in read_values(path)]


def as_record(located: Located) -> Record:
    """A value that is an object. Raises InputError naming file and line where it is none."""
    where, value = located
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: a JSON {_kind(value)}, not an object; write one object per line"
        )
    return Record(where, value)


def _texts(path: Path, decoder: json.JSONDecoder) -> list[Located]:
    """JSON texts one after the other, however they are broken into lines."""
    text = read_text(path)
    _refuse_other_formats(text, path)
    first = text.strip().split("\n", 1)[0].rstrip()
    found: list[Located] = []
    at = line = 0
    while (start := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        line += text.count("\n", at, start)
        where = f"{path}, line {line + 1}"
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as fault:
            if first[0] != "[" and first[-1] not in "{[,":
                # Of JSON lines, the line alone: what is cut there shows only in the next one.
                try:
                    decoder.decode(text[start:].split("\n", 1)[0])
                except (ValueError, RecursionError) as of_line:
                    raise _malformed(path, line, of_line) from of_line
            raise _malformed(path, 0 if hasattr(fault, "lineno") else line, fault) from fault
        line += text.count("\n", start, at)
        found.append((where, value))
    return found


def _malformed(path: Path, lines_before: int, error: Exception) -> InputError:
    if isinstance(error, json.JSONDecodeError):
        return InputError(
            f"{path}, line {lines_before + error.lineno}, column {error.colno}: malformed JSON "
            f"({error.msg}); fix it or download it again"
        )
    # Numbers of thousands of digits, deep nesting, a key that is there twice.
    return InputError(
        f"{path}, line {lines_before + 1}: JSON that cannot be read ({error}); fix it"
    )


def keys_shown(record: Record) -> str:
    """The keys of a record for a message: the first few in order, and how many more there are."""
    keys = sorted(map(printable, record.fields))
    more = f" and {len(keys) - _MAX_SHOWN} more" if len(keys) > _MAX_SHOWN else ""
    return ", ".join(keys[:_MAX_SHOWN]) + more if keys else "nothing"


def printable(text: str) -> str:
    """A key or id for a message: on one line, and not long."""
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= _LONGEST_KEY else shown[: _LONGEST_KEY - 1] + "…"


def text_field(record: Record, key: str) -> str:
    """A non-empty string field. Raises InputError naming file, line and key."""
    wanted = "a non-empty string"
    value = _present(record, key, wanted)
    if not isinstance(value, str) or not value.strip():
        raise _unwanted(record, key, value, wanted)
    return _encodable(record, key, value)


def id_field(record: Record, key: str) -> str:
    """An identifier (integer or string) as a string. Raises InputError naming file, line, key."""
    wanted = "an integer or a non-empty string"
    value = _present(record, key, wanted)
    if isinstance(value, float) and value.is_integer():  # as spreadsheets write integers
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise _unwanted(record, key, value, wanted)
    return _encodable(record, key, str(value).strip())


def answers_field(record: Record, key: str) -> list[str]:
    """A list of answers, each a string or an object that holds one under ``answer``.

    Raises InputError naming file, line and key.
    """
    rows = _present(record, key, "a list of answers")
    if not isinstance(rows, list):
        raise _unwanted(record, key, rows, "a list of answers")
    answers = []
    for answer in (row.get("answer") if isinstance(row, dict) else row for row in rows):
        if not isinstance(answer, str):
            raise _unwanted(record, key, answer, "a list of strings")
        answers.append(_encodable(record, key, answer))
    return answers


def missing_key(record: Record, key: str, wanted: str) -> InputError:
    """What to say where a record lacks a key."""
    return InputError(
        f"{record.where}: key '{key}' is missing (found: {keys_shown(record)}); expected {wanted}"
    )


def _present(record: Record, key: str, wanted: str) -> Any:
    if key not in record.fields:
        raise missing_key(record, key, wanted)
    return record.fields[key]


def _unwanted(record: Record, key: str, value: object, wanted: str) -> InputError:
    shown = printable(json.dumps(value, default=str))
    return InputError(f"{record.where}: key '{key}' is {shown}; expected {wanted}")


def _encodable(record: Record, key: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{record.where}: key '{key}' holds half a surrogate pair; rewrite it"
        ) from error
    return value


def _refuse_other_formats(text: str, path: Path) -> None:
    """Say of CSV and the like what it is, rather than which character is wrong in it."""
    line = text.lstrip().split("\n", 1)[0].strip()
    if not line or line[0] in "{[":
        return
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        kind = text_kind(text)
        what = f"but the file is {kind}" if kind else "convert it to one JSON object a line"
        shown = line if len(line) <= 40 else line[:39] + "…"
        raise InputError(f"{path}: expected JSON or JSON lines, found {shown!r}; {what}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        for key, value in pairs:
            if fields[key] != value:
                shown = " and ".join(printable(repr(one)) for one in (value, fields[key]))
                raise ValueError(
                    f"key {printable(repr(key))} occurs twice with different values, {shown}"
                )
    return fields


def _null(_: str) -> None:
    """NaN and Infinity, which JSON does not know: what has no number has no value."""


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_null)


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")

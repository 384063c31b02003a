"""Confidences that somebody else made: a row for each answer, with whether it was right."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.data.json_input import (
    Record,
    id_field,
    keys_shown,
    missing_key,
    printable,
    read_records,
    read_text,
)
from vrp.data.table_input import table_records
from vrp.errors import InputError, unknown_name

USUAL_NAMES = {
    "id": ("id", "item_id", "question_id"),
    "correct": ("correct",),
    "group": ("group", "image", "image_id"),
    "stratum": ("stratum", "task"),
    "answer": ("answer",),
}
"""What a column holds → the names under which it is looked for, in this order."""
_SCORE, _SCORES = "score", "scores"
_LARGEST = 1e100
"""Scores beyond it cannot be squared."""
TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
"""How a label is written, in small letters → whether the answer is right."""


class ConfidenceFile(NamedTuple):
    """The judged rows of a file, in its order."""

    path: Path
    ids: tuple[str, ...]
    """Different for each row."""
    correct: NDArray[np.bool_]
    """(n,) whether the answer is right."""
    scores: Mapping[str, NDArray[np.float64]]
    """Name → (n,) confidence, turned so that larger means surer; NaN where it is missing."""
    groups: tuple[str, ...]
    """Image of each row; its id where the file names no images."""
    strata: tuple[str, ...] | None
    """Stratum of each row; None where the file names none."""
    answers: tuple[str, ...] | None
    """Answer of each row, in lower case; None where the file has none."""
    columns: Mapping[str, str]
    """What a column holds → its name in the file."""
    n_unlabelled: int
    """Rows left out because it is not known whether they are right."""
    low_is_sure: frozenset[str] = frozenset()
    """Scores that were turned: a smaller value in the file means surer."""


def read_confidences(
    path: Path,
    *,
    scores: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    low_is_sure: Iterable[str] = (),
) -> ConfidenceFile:
    """Read JSON lines, a JSON array of objects, or a table of comma-separated values.

    A row has an id, `correct` (true, false, 0 or 1; null where it is not known), and a number
    under `score`, or several in an object `scores` (in a table, columns `scores.NAME`); it may
    have an image (or another group), a stratum such as a task, and the answer's text.

    Args:
        path: the file; it may be compressed with gzip.
        scores: names of the scores to read; none: those above.
        columns: `id`, `correct`, `group`, `stratum`, `answer` → name of the column that holds it;
            others are looked for under their usual names.
        low_is_sure: scores of which a smaller value means surer, such as entropies.

    Raises:
        InputError: the file is missing or malformed, a column is not there or some rows lack it,
            an id is there twice, or a value is none of those allowed.
    """
    records = _read_rows(path)
    given = _GivenNames(path, records, columns or {})
    ids, correct = given.required("id"), given.required("correct")
    group, stratum, answer = (given.optional(what) for what in ("group", "stratum", "answer"))
    named = [_scores_of(record) for record in records]
    names = _score_names(path, records, named, scores)
    reversed_ones = _known_among(names, low_is_sure)
    labels = [_label(record, correct) for record in records]
    kept = [index for index, label in enumerate(labels) if label is not None]
    if not kept:
        raise InputError(f"{path}: no row says whether its answer is right; give 'correct'")
    every_id = _unique_ids(records, ids)
    rows = [records[index] for index in kept]
    own_scores = [named[index] for index in kept]
    own_ids = tuple(every_id[index] for index in kept)
    return ConfidenceFile(
        path,
        own_ids,
        np.array([labels[index] for index in kept], dtype=bool),
        {
            name: _score_column(path, rows, own_scores, name) * (-1 if name in reversed_ones else 1)
            for name in names
        },
        tuple(id_field(row, group) for row in rows) if group else own_ids,
        tuple(id_field(row, stratum) for row in rows) if stratum else None,
        tuple(_answer(row, answer) for row in rows) if answer else None,
        given.found,
        len(records) - len(kept),
        reversed_ones,
    )


def _read_rows(path: Path) -> list[Record]:
    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    text = read_text(path)
    records = read_records(path) if text.lstrip()[:1] in ("{", "[") else table_records(text, path)
    if not records:
        raise InputError(f"{path}: holds no rows; expected one answer per line")
    return records


class _GivenNames:
    """Which column holds what."""

    def __init__(self, path: Path, records: Sequence[Record], chosen: Mapping[str, str]) -> None:
        self._path, self._chosen = path, chosen
        self._there = _every_key(records)
        self.found: dict[str, str] = {}

    def optional(self, what: str) -> str | None:
        if (name := self._chosen.get(what)) is not None:
            if name not in self._there:
                raise self._absent(what, name)
            self.found[what] = name
        else:
            there = (name for name in USUAL_NAMES[what] if name in self._there)
            if (name := next(there, None)) is not None:
                self.found[what] = name
        return self.found.get(what)

    def required(self, what: str) -> str:
        name = self.optional(what)
        if name is None:
            raise self._absent(what, what)
        return name

    def _absent(self, what: str, name: str) -> InputError:
        message = unknown_name("column", name, map(printable, self._there))
        return InputError(f"{self._path}: {message}; name it with --{what}")


def _every_key(records: Sequence[Record]) -> dict[str, None]:
    """The keys of any row, in their order."""
    return dict.fromkeys(key for record in records for key in record.fields)


def _score_names(
    path: Path, records: Sequence[Record], named: Sequence[Mapping[str, Any]], chosen: Sequence[str]
) -> list[str]:
    known = dict.fromkeys(name for of_row in named for name in of_row)
    if not chosen:
        if known:
            return list(known)
        raise InputError(
            f"{path}: no column 'score' and no object 'scores'; name the scores with --scores "
            f"(columns: {keys_shown(records[0])})"
        )
    there = known | _every_key(records)
    for name in chosen:
        if name not in there:
            raise InputError(f"{path}: {unknown_name('score', name, there)}")
    return list(dict.fromkeys(chosen))


def _scores_of(record: Record) -> dict[str, Any]:
    """The scores that a row names as such."""
    fields = record.fields
    if isinstance(nested := fields.get(_SCORES), dict):
        return nested
    if _SCORE in fields:
        return {_SCORE: fields[_SCORE]}
    prefix = f"{_SCORES}."
    return {n.removeprefix(prefix): value for n, value in fields.items() if n.startswith(prefix)}


def _known_among(names: Sequence[str], low_is_sure: Iterable[str]) -> frozenset[str]:
    found = frozenset(low_is_sure)
    for name in sorted(found - set(names)):
        raise InputError(unknown_name("score", name, names))
    return found


def _unique_ids(records: Sequence[Record], key: str) -> list[str]:
    where: dict[str, str] = {}
    for record in records:
        name = id_field(record, key)
        if name in where:
            raise InputError(
                f"{record.where}: id {printable(name)!r} is already used ({where[name]}); ids "
                "must differ: give --id the column that tells the rows apart"
            )
        where[name] = record.where
    return list(where)


def _label(record: Record, key: str) -> bool | None:
    wanted = "true, false, 0 or 1 (null: not known)"
    if key not in record.fields:
        raise missing_key(record, key, wanted)
    value = record.fields[key]
    if value is None:
        return None
    if isinstance(value, bool | int | float | str):
        found = TRUTH.get(str(value).strip().casefold())
        if found is not None:
            return found
    raise _refused(record, key, value, wanted)


def _score_column(
    path: Path, rows: Sequence[Record], named: Sequence[Mapping[str, Any]], name: str
) -> NDArray[np.float64]:
    values = (
        _number(row, name, scores.get(name, row.fields.get(name)))
        for row, scores in zip(rows, named, strict=True)
    )
    column = np.fromiter(values, dtype=np.float64, count=len(rows))
    if np.isnan(column).all():
        raise InputError(f"{path}: score {name!r} has a finite number in no judged row")
    return column


def _number(row: Record, name: str, value: object) -> float:
    """The score as a number; NaN where it is missing or not finite."""
    if value is None:
        return math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _refused(row, name, value, "a number") from None
        if not math.isfinite(number):
            return math.nan
        if abs(number) > _LARGEST:
            wanted = f"a number within ±{_LARGEST:g} (null: there is none); scale the score"
            raise _refused(row, name, value, wanted)
        return number
    raise _refused(row, name, value, "a number")


def _answer(row: Record, key: str) -> str:
    if key not in row.fields:
        raise missing_key(row, key, "a text, as in other rows (null: not known)")
    value = row.fields[key]
    if value is None:
        return ""
    if isinstance(value, list | dict):
        raise _refused(row, key, value, "a text")
    return str(value).strip().casefold()


def _refused(record: Record, key: str, value: object, wanted: str) -> InputError:
    return InputError(f"{record.where}: {key!r} is {printable(repr(value))}; expected {wanted}")

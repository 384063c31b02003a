"""Rows of data sets on the hub: names for their images, and values checked column by column."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from vrp.data.dataset import Row
from vrp.data.json_input import printable
from vrp.errors import InputError

_COCO_FOLDER = re.compile(r"(?:train|val|test)\d{4}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def image_stem(image_id: object, image_folder: str, sha256: str) -> str:
    """The file name, without suffix, of an image that a data set calls `image_id`.

    A COCO number becomes COCO's file name, of the image folder (such as `val2014`), so that a
    photograph of several data sets is one file; another plain name stays, with a suffix or not;
    without one the image is called by the digest of its bytes.
    """
    name = "" if image_id is None else str(image_id).strip()
    name = re.sub(r"\.(?:jpe?g|png|webp)$", "", name, flags=re.IGNORECASE)
    if name.isascii() and name.isdigit() and len(name) <= 12:
        known = _COCO_FOLDER.fullmatch(image_folder)
        return f"COCO_{image_folder}_{int(name):012d}" if known else f"{int(name):012d}"
    return name if _PLAIN_NAME.fullmatch(name) else sha256


def id_column(row: Row, column: str, where: str) -> int | str:
    """A question id, as a number where it is one. Raises InputError where it is empty or no id."""
    value = row[column]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = text_column(row, column, where)
    return int(text) if text.isascii() and text.isdigit() else text


def text_column(row: Row, column: str, where: str) -> str:
    """A text without spaces around it. Raises InputError where it is empty or something else."""
    value = row[column]
    text = "" if value is None else value
    if not isinstance(text, str) or isinstance(_parsed(text), dict | list):
        raise _other_layout(where, column, value, "text")
    if not text.strip():
        raise InputError(f"{where}: column {column!r} is empty; choose another data set or split")
    return text.strip()


def choice_column(row: Row, column: str, where: str, whose: str, choices: Sequence[str]) -> str:
    """One of a data set's words, in lower case. Raises InputError where it is none of them."""
    found = text_column(row, column, where).lower()
    if found not in choices:
        raise InputError(
            f"{where}: {column} {found!r} is none of {whose}'s ({', '.join(choices)}); choose "
            "another data set or split"
        )
    return found


def answers_column(row: Row, column: str, where: str) -> list[dict[str, Any]]:
    """Annotators' answers, each an object that holds a text under ``answer``; null is none.

    They are given as a list of texts or of such objects, as one object of lists, or as any of these
    in JSON text. Raises InputError where they are something else.
    """
    given = _parsed(row[column])
    if given is None:
        return []
    if isinstance(given, dict):
        lengths = {len(v) if isinstance(v, list) else None for v in given.values()}
        fit = len(lengths) < 2 and None not in lengths
        rows = zip(*given.values(), strict=True) if fit else ()
        given = [dict(zip(given, row, strict=True)) for row in rows] if fit else None
    answers = [_parsed(answer) for answer in given] if isinstance(given, list) else [None]
    found = [{"answer": answer} if isinstance(answer, str) else answer for answer in answers]
    if not all(isinstance(one, dict) and isinstance(one.get("answer"), str) for one in found):
        raise _other_layout(where, column, row[column], "list of texts")
    return [one for one in found if isinstance(one, dict)]


def _parsed(value: object) -> object:
    """What a text of JSON, or of Python's notation, stands for where it has parts; else itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, dict | list):
                return found
    return value


def _other_layout(where: str, column: str, value: object, wanted: str) -> InputError:
    return InputError(
        f"{where}: column {column!r} is no {wanted} but {printable(repr(value))}; choose another "
        "data set or split"
    )

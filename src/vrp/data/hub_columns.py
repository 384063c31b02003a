"""POPE, VQA v2 and TextVQA as published on the hub, turned row by row into the official rows."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vrp.data.item import YES_NO
from vrp.data.pope import POPE_SPLITS
from vrp.errors import InputError

Row = Mapping[str, Any]
"""A row of a Parquet file: column → value."""

TEXTVQA_SETS = ("train", "val", "test")
QUESTIONS = "questions"
ANNOTATIONS = "annotations"

_COCO_FOLDER = re.compile(r"(?:train|val|test)\d{4}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Columns(NamedTuple):
    """How a data set is published, and which official rows come of it."""

    required: tuple[str, ...]
    """Columns that have to be there."""
    image_ids: tuple[str, ...]
    """Columns that may name the image; the first that is there does."""
    official: Callable[[Row, str, str], dict[str, dict[str, Any]]]
    """(row, image's file name, where) → official file → the row that it gets."""


def image_stem(image_id: object, image_folder: str, sha256: str) -> str:
    """The file name, without suffix, of an image that a data set calls `image_id`.

    A COCO number becomes COCO's file name, so that a photograph of several data sets is one file;
    another plain name stays; without one the image is called by its digest.

    Args:
        image_id: a number, a name, with a suffix or not, or None.
        image_folder: such as `val2014`, of which COCO's names are made.
        sha256: of the image's bytes.
    """
    name = "" if image_id is None else str(image_id).strip()
    name = re.sub(r"\.(?:jpe?g|png|webp)$", "", name, flags=re.IGNORECASE)
    if name.isascii() and name.isdigit() and len(name) <= 12:
        known = _COCO_FOLDER.fullmatch(image_folder)
        return f"COCO_{image_folder}_{int(name):012d}" if known else f"{int(name):012d}"
    return name if _PLAIN_NAME.fullmatch(name) else sha256


def _pope(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    split = _text(row, "category", where).lower()
    label = _text(row, "answer", where).lower()
    if split not in POPE_SPLITS:
        raise InputError(
            f"{where}: category {split!r} is none of POPE's ({', '.join(POPE_SPLITS)}); choose "
            "another data set or split"
        )
    if label not in YES_NO:
        raise InputError(f"{where}: answer {label!r} is neither yes nor no; is this POPE?")
    return {
        split: {
            "question_id": _id(row, "question_id", where),
            "image": image,
            "text": _text(row, "question", where),
            "label": label,
        }
    }


def _vqa(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    ids = {"image_id": _image_id(row, image), "question_id": _id(row, "question_id", where)}
    rows: dict[str, dict[str, Any]] = {
        QUESTIONS: {**ids, "question": _text(row, "question", where)}
    }
    if row["answers"]:  # splits whose answers are held back have none
        rows[ANNOTATIONS] = {
            "question_type": row.get("question_type"),
            "multiple_choice_answer": row.get("multiple_choice_answer"),
            "answers": [
                {"answer": answer} if isinstance(answer, str) else dict(answer)
                for answer in row["answers"]
            ],
            "answer_type": row["answer_type"],
            **ids,
        }
    return rows


def _textvqa(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    name = _text(row, "set_name", where).lower()
    if name not in TEXTVQA_SETS:
        raise InputError(
            f"{where}: set_name {name!r} is none of TextVQA's ({', '.join(TEXTVQA_SETS)}); choose "
            "another data set or split"
        )
    extra = {column: row[column] for column in _TEXTVQA_EXTRA if row.get(column) is not None}
    return {
        name: {
            "question": _text(row, "question", where),
            "image_id": image.rpartition(".")[0],
            **extra,
            "answers": _texts(row, "answers", where),
            "question_id": _id(row, "question_id", where),
            "set_name": name,
        }
    }


def _image_id(row: Row, image: str) -> int | str:
    """The id under which the reader finds the file: COCO's number, or its name."""
    found = str(row["image_id"]).strip()
    if found.isascii() and found.isdigit():
        return int(found)
    return image.rpartition(".")[0]


def _id(row: Row, column: str, where: str) -> int | str:
    text = _text(row, column, where)
    return int(text) if text.isascii() and text.isdigit() else text


def _text(row: Row, column: str, where: str) -> str:
    value = row[column]
    text = "" if value is None else str(value).strip()
    if not text:
        raise InputError(f"{where}: column {column!r} is empty; choose another data set or split")
    return text


def _texts(row: Row, column: str, where: str) -> list[str]:
    values = [] if row[column] is None else row[column]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(
            f"{where}: column {column!r} is no list of texts; choose another data set or split"
        )
    return values


POPE_COLUMNS = Columns(
    ("question_id", "question", "answer", "category", "image"), ("image_source", "image_id"), _pope
)
"""As in lmms-lab/POPE, all three splits in one."""
VQA_COLUMNS = Columns(
    ("question_id", "question", "image_id", "answers", "answer_type", "image"), ("image_id",), _vqa
)
"""As in lmms-lab/VQAv2."""
_TEXTVQA_EXTRA = (
    "image_classes", "flickr_original_url", "flickr_300k_url", "image_width", "image_height",
    "question_tokens",
)  # fmt: skip
TEXTVQA_COLUMNS = Columns(
    ("question_id", "question", "image_id", "answers", "set_name", "image"),
    ("image_id",),
    _textvqa,
)
"""As in lmms-lab/textvqa."""

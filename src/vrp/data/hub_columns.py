"""Rows of data sets on the hub: names for their images, and values checked column by column."""

import re

from vrp.data.dataset import Row
from vrp.errors import InputError

_COCO_FOLDER = re.compile(r"(?:train|val|test)\d{4}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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


def id_column(row: Row, column: str, where: str) -> int | str:
    """A question id, as a number where it is one. Raises InputError where it is empty."""
    text = text_column(row, column, where)
    return int(text) if text.isascii() and text.isdigit() else text


def text_column(row: Row, column: str, where: str) -> str:
    """A text without spaces around it. Raises InputError where it is empty."""
    value = row[column]
    text = "" if value is None else str(value).strip()
    if not text:
        raise InputError(f"{where}: column {column!r} is empty; choose another data set or split")
    return text


def texts_column(row: Row, column: str, where: str) -> list[str]:
    """A list of texts; null is an empty one. Raises InputError where it is something else."""
    values = [] if row[column] is None else row[column]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(
            f"{where}: column {column!r} is no list of texts; choose another data set or split"
        )
    return values

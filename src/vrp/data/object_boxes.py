"""Boxes of the objects in a data set's images, from an annotation file in COCO's format.

https://cocodataset.org/#format-data: `images` (id, file_name, width, height), `categories` (id,
name) and `annotations` (image_id, category_id, bbox: left, top, width, height).
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from json import JSONDecodeError, loads
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple

from vrp.data.dataset import DatasetPlaces
from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.signals.boxes import Box

INSTANCES_FILE: Final = "annotations/instances_val2014.json"
"""Usual place of COCO's annotation file, and that of the drawn scenes, in the data folder."""
# POPE's official files misspell the image here and there.
_ASKED_FOR = re.compile(r"is there an? (.+?) in the (?:image|imange)\?*", re.IGNORECASE)


class AnnotatedImage(NamedTuple):
    """What an annotation file says of one image."""

    size: ImageSize
    """Width and height, pixels."""
    boxes: Mapping[str, Sequence[Box]]
    """Category → the boxes of its objects."""


class Annotations(NamedTuple):
    """An annotation file."""

    categories: frozenset[str]
    """Names of all categories, in lower case."""
    images: Mapping[str, AnnotatedImage]
    """File name → image."""


def object_asked_for(question: str) -> str:
    """Return the object of a question such as POPE's, in lower case; empty for any other."""
    found = _ASKED_FOR.fullmatch(question.strip())
    return found[1].lower() if found else ""


def instances_path(folder: str, origin: str, named: str | None) -> Path | None:
    """Return the path of a study's annotation file; None where it has none.

    Args:
        folder: the data folder.
        origin: `data.origin`: drawn scenes have a file of their own.
        named: `boxes.instances`, inside the data folder.

    Raises:
        InputError: the file is a link that leaves the data folder.
    """
    place = named or (INSTANCES_FILE if origin == "scenes" else None)
    if place is None:
        return None
    return DatasetPlaces(Path(folder), {"instances": place}, "").path("instances")


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file in COCO's format.

    Raises:
        InputError: the file is missing or is none of that.
    """
    try:
        # Outlines, nine tenths of COCO's own file, are dropped as they are read.
        content = loads(path.read_text(encoding="utf-8"), object_hook=_without_outlines)
        names = {row["id"]: str(row["name"]).lower() for row in content["categories"]}
        boxes: defaultdict[Any, defaultdict[str, list[Box]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in content["annotations"]:
            boxes[row["image_id"]][names[row["category_id"]]].append(_corners(row["bbox"]))
        images = {
            str(row["file_name"]): AnnotatedImage(
                (int(row["width"]), int(row["height"])), boxes.get(row["id"], {})
            )
            for row in content["images"]
        }
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); put COCO's instances file there or "
            "fix boxes.instances"
        ) from error
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is not an annotation file in COCO's format, with images, categories and "
            f"annotations ({type(error).__name__}: {error})"
        ) from error
    return Annotations(frozenset(names.values()), images)


def _without_outlines(found: dict[str, Any]) -> dict[str, Any]:
    found.pop("segmentation", None)
    return found


def _corners(bbox: Sequence[float]) -> Box:
    left, top, width, height = map(float, bbox)
    if not all(map(isfinite, (left, top, width, height))) or min(width, height) < 0:
        raise ValueError(f"bbox {bbox}")
    return left, top, left + width, top + height

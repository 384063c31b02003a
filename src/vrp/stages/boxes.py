"""Find the boxes of the objects that the study's questions ask for."""

from pathlib import Path
from typing import Any

from vrp.data.object_boxes import (
    AnnotatedImage,
    Annotations,
    instances_path,
    object_asked_for,
    read_annotations,
)
from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.tables.boxes import BOXES, NO_CATEGORY, NOT_ANNOTATED, NOT_ASKED_FOR, NOT_THERE
from vrp.tables.columns import rows_table
from vrp.tables.items import ITEMS, read_asked_items
from vrp.tables.parquet_files import write_table


def run(context: StageContext) -> None:
    """Look up, for each question for an object, where the image has such objects.

    Raises:
        InputError: the annotation file is missing or malformed, or knows none of the study's
            images.
    """
    data, named = context.study.data, context.study.boxes.instances
    path = instances_path(data.folder, data.origin, named)
    if path is None:
        raise InputError("boxes.instances: name the annotation file inside the data folder")
    items = read_asked_items(context.input_path("items"), ITEMS.only("image", "question"))
    annotations = read_annotations(path)
    rows = [_row(row, annotations) for row in items.iter_rows(named=True)]
    asked = [row for row in rows if row["object"] is not None]
    if asked and all(row["note"] == NOT_ANNOTATED for row in asked):
        first = items.filter(item_id=asked[0]["item_id"])["image"][0]
        raise InputError(
            f"{path}: lists none of the images of the study's {len(asked)} questions for an "
            f"object, such as {Path(first).name}; name the file of these images, or set "
            "boxes.instances to null"
        )
    table = rows_table(BOXES, rows)
    write_table(context.output_path("boxes"), BOXES, table, provenance=context.provenance)


def _row(item: dict[str, Any], annotations: Annotations) -> dict[str, Any]:
    """Row of one item."""
    wanted = object_asked_for(item["question"])
    image = annotations.images.get(Path(item["image"]).name)
    boxes = image.boxes.get(wanted, ()) if image is not None else ()
    width, height = image.size if image is not None else (0, 0)
    return {
        "item_id": item["item_id"],
        "object": wanted or None,
        "image_width": width,
        "image_height": height,
        "boxes": [list(box) for box in boxes],
        "note": None if boxes else _reason(wanted, image, annotations),
    }


def _reason(wanted: str, image: AnnotatedImage | None, annotations: Annotations) -> str:
    if not wanted:
        return NOT_ASKED_FOR
    if image is None:
        return NOT_ANNOTATED
    return NOT_THERE if wanted in annotations.categories else NO_CATEGORY

"""The questions and images of a study, as the explorer holds them."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from PIL import Image

from vrp.data.file_digest import file_sha256
from vrp.data.images import open_image, sampled_image
from vrp.data.item import ImageSize
from vrp.data.scoring import answer_form
from vrp.errors import InputError
from vrp.explorer.chunks import Chunk
from vrp.signals.boxes import grid_window
from vrp.tables.items import asked_items

_QUALITY = 60


class Picture(NamedTuple):
    """An image of the study, small."""

    content: bytes
    """WebP; empty where it cannot be shown."""
    size: ImageSize
    """Width and height of the original; 0 where it is not known."""
    problem: str
    """Reason why it cannot be shown; empty where it can."""


def ordered_items(items: pl.DataFrame) -> pl.DataFrame:
    """Return the items that models were asked, in the explorer's order, with columns of its own.

    `form` is the form of the reference (empty: not known) and `picture` the number of the image,
    in the order in which images come first.

    Args:
        items: rows of `items.parquet`.
    """
    asked = asked_items(items).sort("group", "item_id")
    forms = ["" if known is None else answer_form(known) for known in asked["reference"]]
    number = {
        digest: place for place, digest in enumerate(asked["group"].unique(maintain_order=True))
    }
    picture = [number[digest] for digest in asked["group"]]
    return asked.with_columns(form=pl.Series(forms, dtype=pl.String), picture=pl.Series(picture))


def items_chunk(items: pl.DataFrame, boxes: Mapping[str, Mapping[str, Any]]) -> Chunk:
    """Return the questions of some items.

    Args:
        items: rows of `ordered_items`.
        boxes: item → its row of the table of boxes; none where the study has no such table.
    """
    chunk = Chunk()
    for name in ("item_id", "dataset", "split", "task", "form", "image", "question", "reference"):
        chunk.add_words(name, items[name].to_list())
    chunk.add_integers("picture", items["picture"].to_numpy())
    chunk.add_words("annotators", [_counted(answers) for answers in items["answers"]])
    if boxes:
        rows = [boxes.get(item_id, {}) for item_id in items["item_id"]]
        chunk.add_words("object", [row.get("object") for row in rows])
        found = [row.get("boxes", []) for row in rows]
        chunk.add_integers("n_boxes", [len(one) for one in found])
        chunk.add_numbers("boxes", [edge for one in found for box in one for edge in box])
    return chunk


def _counted(answers: Sequence[str]) -> str:
    """Annotators' answers, most frequent first, such as `2 ×9, 3`."""
    counts = Counter(answers).most_common()
    return ", ".join(f"{text} ×{n}" if n > 1 else text for text, n in counts)


def read_picture(folder: Path, image: str, sha256: str, *, pixels: int) -> Picture:
    """Return an image of the data folder, which has to be the one that was sampled.

    Args:
        folder: the data folder.
        image: its path there.
        sha256: its digest.
        pixels: longer side of what is returned; a smaller image stays as it is.
    """
    try:
        path = sampled_image(folder, image)
        if not path.is_file():
            raise InputError(f"{image} is not in the data folder")
        if file_sha256(path) != sha256:
            raise InputError(f"{image} is no longer the image that was sampled")
        shown = open_image(path)
    except InputError as error:
        return Picture(b"", (0, 0), str(error))
    size = shown.size
    shown.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return Picture(buffer.getvalue(), size, "")


def pictures_chunk(pictures: Sequence[Picture], policies: Sequence[str]) -> Chunk:
    """Return some images, and which part of each the image tokens cover.

    Args:
        pictures: the images.
        policies: how models make images fit (`vrp.signals.boxes.grid_window`).
    """
    chunk = Chunk()
    chunk.add_integers("n_bytes", [len(one.content) for one in pictures])
    chunk.add_integers("size", np.array([one.size for one in pictures]))
    chunk.add_words("problem", [one.problem or None for one in pictures])
    for policy in policies:
        windows = [grid_window(one.size, policy) for one in pictures]
        chunk.add_numbers(f"window {policy}", np.array(windows))
    chunk.add_bytes("content", b"".join(one.content for one in pictures))
    return chunk

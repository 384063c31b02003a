"""Attention of the models, overlaid on the images."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from vrp.data.file_digest import file_sha256
from vrp.data.images import open_image, sampled_image
from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.findings.evidence import ModelEvidence, ordered_tasks
from vrp.signals.boxes import Box, grid_window
from vrp.tables.attention import ATTENTION
from vrp.tables.parquet_files import read_table
from vrp.tables.seal import read_provenance

# Larger images are shrunk to fit; smaller ones enlarged by a whole factor.
_PANEL: ImageSize = (320, 288)
_COLOURS = "inferno"
_QUALITY = 90


class Overlay(NamedTuple):
    """One item's attention on its image."""

    item_id: str
    task: str
    question: str
    answer: str
    reference: str | None
    correct: bool | None
    peak: float
    """Largest attention of a token, as a multiple of the uniform share; NaN without a map."""
    original: str
    """The image as a data URI; empty where it cannot be shown."""
    attended: str
    """The image with its attention as a data URI; empty where it cannot be shown."""
    problem: str
    """Reason why it cannot be shown; empty where it can."""


def overlays(
    model: ModelEvidence, attention: Sequence[Path], *, folder: Path, count: int
) -> list[Overlay]:
    """Overlays of right, wrong and unjudged answers of every task, `count` in all.

    Args:
        model: its answers.
        attention: all shards of its attention table.
        folder: the data folder.
        count: how many; fewer where the study has fewer items.
    """
    chosen = choose_items(model.answers, count)
    maps = _read_maps(attention, [row["item_id"] for row in chosen])
    policy = read_provenance(attention[0]).get("image_policy", "") if attention else ""
    return [_overlay(row, maps.get(row["item_id"]), folder, policy) for row in chosen]


def choose_items(answers: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """Take right and wrong items of every task in turn, by the SHA-256 of their ids.

    The choice depends on nothing but the ids and which answers are right; an image is shown twice
    only where there is no other.
    """
    cells: list[list[dict[str, Any]]] = []
    for task in ordered_tasks(answers):
        for correct in (True, False, None):
            rows = answers.filter(
                pl.col("task") == task, pl.col("correct").eq_missing(correct)
            ).to_dicts()
            cells.append(sorted(rows, key=lambda row: _rank(row["item_id"])))
    chosen: list[dict[str, Any]] = []
    while len(chosen) < count and any(cells):
        for cell in cells:
            if cell and len(chosen) < count:
                seen = {row["image_sha256"] for row in chosen}
                fresh = [row for row in cell if row["image_sha256"] not in seen]
                row = (fresh or cell)[0]
                cell.remove(row)
                chosen.append(row)
    return chosen


def _rank(item_id: str) -> str:
    return hashlib.sha256(f"overlay\0{item_id}".encode()).hexdigest()


def _read_maps(paths: Sequence[Path], wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Item → its row of the attention table; one shard in memory at a time."""
    found = {}
    for path in paths:
        shard = read_table(path, ATTENTION, columns=["grid_h", "grid_w", "maps", "note"])
        for row in shard.filter(pl.col("item_id").is_in(list(wanted))).iter_rows(named=True):
            found[row["item_id"]] = row
    return found


def _overlay(
    row: Mapping[str, Any], looked: Mapping[str, Any] | None, folder: Path, policy: str
) -> Overlay:
    peak, original, attended, problem = float("nan"), "", "", ""
    try:
        image = _open_checked(row, folder)
        original = image_uri(fitted(image))
        grid = _mean_map(looked)
        peak = float(grid.max() * grid.size)
        attended = image_uri(attention_on_image(image, grid, grid_window(image.size, policy)))
    except InputError as error:
        problem = str(error)
    return Overlay(
        row["item_id"], row["task"], row["question"], row["answer"], row["reference"],
        row["correct"], peak, original, attended, problem,
    )  # fmt: skip


def _open_checked(row: Mapping[str, Any], folder: Path) -> Image.Image:
    """The item's image, which has to be the one that was sampled.

    Raises:
        InputError: it is none of that.
    """
    path = sampled_image(folder, row["image"])
    if not path.is_file():
        raise InputError(f"{row['image']} is not in the data folder")
    if file_sha256(path) != row["image_sha256"]:
        raise InputError(f"{row['image']} is no longer the image that was sampled")
    return open_image(path)


def _mean_map(looked: Mapping[str, Any] | None) -> NDArray[np.float64]:
    """(grid_h, grid_w) mean over layers.

    Raises:
        InputError: there is no map, or a layer of it is undefined.
    """
    if looked is None:
        raise InputError("no attention was kept for this item")
    if looked["maps"] is None:
        raise InputError("attention was not captured")
    mean = np.array(looked["maps"], dtype=np.float64).mean(axis=0)
    if not (mean.size and np.isfinite(mean).all() and mean.max() > 0):
        raise InputError(f"the attention map is undefined ({looked['note'] or 'no reason given'})")
    return mean.reshape(looked["grid_h"], looked["grid_w"])


def attention_on_image(image: Image.Image, grid: NDArray[np.floating], window: Box) -> Image.Image:
    """The image in grey, with each image token's attention as colour over its own pixels.

    What the model was not shown, beyond the grid, is darker.

    Args:
        image: the original.
        grid: (grid_h, grid_w) attention; its maximum gets the brightest colour.
        window: what the grid covers, in pixels of the original (`grid_window`).
    """
    shown = fitted(image)
    heat, inside = _heat(grid, window, image.size, shown.size)
    grey = np.asarray(shown.convert("L"), dtype=np.float64)[..., None] / 255
    colour = mpl.colormaps[_COLOURS](0.3 + 0.7 * heat)[..., :3]
    # Faint attention lets the picture through; outside the grid nothing is laid over it.
    weight = (0.85 * heat**0.8)[..., None]
    dimmed = np.where(inside[..., None], 0.12 + 0.62 * grey, 0.06 + 0.3 * grey)
    mixed = (1 - weight) * dimmed + weight * colour
    return Image.fromarray(np.round(255 * np.clip(mixed, 0, 1)).astype(np.uint8))


def _heat(
    grid: NDArray[np.floating], window: Box, size: ImageSize, shown: ImageSize
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(height, width) attention of each shown pixel's token, 0 to 1, and whether it has one."""
    columns, x_inside = _cells(shown[0], size[0], window[0], window[2], grid.shape[1])
    rows, y_inside = _cells(shown[1], size[1], window[1], window[3], grid.shape[0])
    inside = y_inside[:, None] & x_inside[None, :]
    heat = np.asarray(grid, dtype=np.float64)[rows][:, columns] / float(grid.max())
    return np.where(inside, heat, 0.0), inside


def _cells(
    n_shown: int, n_pixels: int, start: float, end: float, n_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Along one axis: the cell under the centre of every shown pixel, and whether there is one."""
    centres = (np.arange(n_shown) + 0.5) * n_pixels / n_shown
    cell = np.floor((centres - start) / (end - start) * n_cells).astype(np.int64)
    return np.clip(cell, 0, n_cells - 1), (cell >= 0) & (cell < n_cells)


def fitted(image: Image.Image) -> Image.Image:
    """The image at the size it is shown at."""
    scale = min(_PANEL[0] / image.width, _PANEL[1] / image.height)
    if scale > 1:
        scale = int(scale)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image


def image_uri(image: Image.Image) -> str:
    """The image as WebP in a data URI: an eighth of a PNG's size, and no difference to the eye."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""What every stage that runs a model shares: items, the loaded model, and planned batches."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from PIL import Image

from vrp.config.data import DataConfig
from vrp.config.models import ModelConfig
from vrp.data.file_digest import file_sha256
from vrp.data.images import open_image, sampled_image
from vrp.data.item import ImageSize, Item
from vrp.data.scoring import normalise_answer, surface_forms
from vrp.data.sharding import shard_items
from vrp.errors import InputError
from vrp.running.gpus import claim_gpus
from vrp.running.model_manifest import Manifest, local_folder
from vrp.study.context import StageContext
from vrp.tables.items import read_asked_items
from vrp.tables.seal import read_provenance

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit, GivenAnswer, VlmInput
    from vrp.vlm.model import VLM

logger = logging.getLogger(__name__)

# Decoded images kept for the next batch that asks about them.
_CACHE_BYTES = 256 * 2**20
_EXIF_ORIENTATION = 0x0112


def load_model(model: ModelConfig, manifest: Manifest) -> "VLM":
    """Load the checkpoint that the manifest records, with as many threads as the job was given.

    Raises:
        InputError: the checkpoint cannot be loaded, or an option does not fit it.
    """
    claim_gpus(model)
    import torch

    from vrp.vlm.loading import load_vlm

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads):
        torch.set_num_threads(int(threads))
    apart = {"checkpoint", "revision", "batch_size", "map_layers"}
    options = {key: getattr(model, key) for key in ModelConfig.model_fields if key not in apart}
    source = local_folder(model.checkpoint) or model.checkpoint
    return load_vlm(source, revision=manifest.revision, **options)


def with_revision(provenance: Mapping[str, str], manifest: Manifest) -> dict[str, str]:
    """Add to a stage's provenance which weights made the table."""
    return {
        **provenance,
        "family": manifest.family,
        "checkpoint": manifest.checkpoint,
        "revision": manifest.identity,
    }


def with_weights(provenance: Mapping[str, str], vlm: "VLM") -> dict[str, str]:
    """Add the digest of the loaded weights, by which later stages know the model that ran."""
    return {**provenance, "weights": vlm.weights}


def run_metadata(vlm: "VLM", model: ModelConfig) -> dict[str, str]:
    """What a reader of the tables must know of a run beside its weights, for the provenance."""
    return {
        "dtype": model.dtype,
        "prompt": model.prompt,
        "image_policy": vlm.family.image_policy,
        "notes": json.dumps(vlm.notes),
    }


def first_prompts(vlm: "VLM", items: Mapping[str, Item], images: "StudyImages") -> dict[str, str]:
    """What the first item of each task is asked, word by word and token by token.

    Returns:
        `first_prompts`: a JSON list, for the provenance; the image is one token in `token_ids`.
    """
    shown: dict[str, dict[str, object]] = {}
    for item in items.values():
        if item.task not in shown:
            shown[item.task] = {
                "task": item.task,
                "item_id": item.item_id,
                "prompt": vlm.render_prompt(item.question),
                "token_ids": vlm.prompt_token_ids(item.question),
                "image_token_id": vlm.image_token_id,
                "n_image_tokens": vlm.grid(images.size(item)).n_tokens,
            }
    return {"first_prompts": json.dumps(list(shown.values()))}


def check_same_model(paths: Iterable[Path], provenance: Mapping[str, str]) -> None:
    """Refuse tables that another model, or other weights of it, made.

    Raises:
        InputError: naming the file and what made it.
    """
    for path in paths:
        origin = read_provenance(path)
        for key in ("model", "revision", "weights"):
            found, expected = origin.get(key, ""), provenance.get(key, "")
            if found and expected and found != expected:
                raise InputError(
                    f"{path}: was made with {key} {found!r}, this run has {expected!r}; "
                    "give this model's tables, or delete the file and rerun its stage"
                )


def read_judged_items(path: Path) -> pl.DataFrame:
    """Read the items that a model is asked and whose answers are right or wrong; maybe none.

    Raises:
        InputError: as `read_items`.
    """
    return read_items(path).filter(pl.col("reference").is_not_null())


def read_items(path: Path) -> pl.DataFrame:
    """Read the items that a model is asked.

    Raises:
        InputError: the table is missing, malformed or empty.
    """
    frame = read_asked_items(path)
    if not frame.height:
        raise InputError(f"{path}: holds no items; run `vrp sample` again")
    return frame


def as_items(frame: pl.DataFrame) -> dict[str, Item]:
    """Return the rows as items, by id, in the table's order."""
    return {row["item_id"]: Item(**row) for row in frame.iter_rows(named=True)}


def shard_of_items(context: StageContext) -> dict[str, Item]:
    """Return the items of a job's shard, by id, in the table's order.

    Raises:
        InputError: as `read_items`.
    """
    frame = read_items(context.input_path("items"))
    return as_items(shard_items(frame, n_shards=context.n_shards, shard=context.shard))


class StudyImages:
    """The study's images, opened from the data folder and checked against what was sampled."""

    def __init__(self, data: DataConfig) -> None:
        self._root = Path(data.folder)
        self._decoded: dict[str, Image.Image] = {}
        self._cached_bytes = 0
        self._sizes: dict[str, ImageSize] = {}
        self._blank: dict[ImageSize, Image.Image] = {}
        self._blank_keys: dict[ImageSize, str] = {}
        self._checked: set[str] = set()

    def open(self, item: Item) -> Image.Image:
        """Return the item's image as 8-bit RGB, upright.

        Raises:
            InputError: the file is missing, damaged, outside the data folder, or not the one
                that was sampled.
        """
        if item.image not in self._decoded:
            image = open_image(self._checked_path(item))
            self._cached_bytes += 3 * image.width * image.height
            if self._cached_bytes > _CACHE_BYTES:
                self._decoded.clear()
                self._cached_bytes = 3 * image.width * image.height
            self._decoded[item.image] = image
        return self._decoded[item.image]

    def size(self, item: Item) -> ImageSize:
        """Return (width, height) in pixels, upright, from the file's header where that will do."""
        if item.image not in self._sizes:
            path = self._checked_path(item)
            self._sizes[item.image] = _header_size(path) or open_image(path).size
        return self._sizes[item.image]

    def blank(self, size: ImageSize) -> Image.Image:
        """Return the grey image of a size, always the same object."""
        if size not in self._blank:
            from vrp.vlm.image_edits import blank_image

            self._blank[size] = blank_image(size)
        return self._blank[size]

    def blank_key(self, size: ImageSize, vlm: "VLM") -> str:
        """Return what names the grey image of a size, as a model is shown it.

        Where every image is resized to one size, the grey images of all sizes are the same.
        """
        if size not in self._blank_keys:
            digest = hashlib.sha256(repr(vlm.grid(size)).encode())
            for name, values in sorted(vlm.family.process_images([self.blank(size)]).items()):
                shape = " ".join(map(str, values.shape))
                digest.update(f"{name} {shape}".encode() + values.cpu().numpy().tobytes())
            self._blank_keys[size] = f"blank {digest.hexdigest()}"
        return self._blank_keys[size]

    def _checked_path(self, item: Item) -> Path:
        path = sampled_image(self._root, item.image)
        if item.image in self._checked:
            return path
        if not path.is_file():
            raise InputError(
                f"{path}: no such image file (item {item.item_id}); check data.folder or rerun "
                "`vrp fetch-data`"
            )
        if file_sha256(path) != item.image_sha256:
            raise InputError(
                f"{path}: is not the image that was sampled (item {item.item_id}): its SHA-256 "
                "differs; restore it or rerun `vrp sample`"
            )
        self._checked.add(item.image)
        return path


def _header_size(path: Path) -> ImageSize | None:
    """Return the upright size that the header states; None where it cannot be had so."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            quarter_turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return None
    return (height, width) if quarter_turned else (width, height)


class ItemBatches:
    """Items in the batches that a model answers them in.

    The plan is a pure function of items and batch size; images are opened once, a batch at a time.
    """

    def __init__(
        self,
        vlm: "VLM",
        items: Mapping[str, Item],
        images: StudyImages,
        *,
        batch_size: int,
        blank: bool = False,
        truth: bool = False,
        given: "Mapping[str, GivenAnswer] | None" = None,
        max_new_tokens: "AnswerLimit" = 0,
    ) -> None:
        """Bind the items.

        Args:
            vlm: the model.
            items: by id.
            images: where their images are.
            batch_size: items a batch.
            blank: show a grey image of the same size in place of each item's own.
            truth: tell the model's lens which tokens start the reference.
            given: answers to score under the prompts, by item id.
            max_new_tokens: longest answer, for all items or by task, which has to fit the context
                behind the prompt.
        """
        self.items = items
        self.vlm = vlm
        self._images = images
        self._batch_size = batch_size
        self._blank = blank
        self._truth = truth
        self._given = given or {}
        self._max_new_tokens = max_new_tokens
        self._truth_tokens: dict[tuple[str, str], tuple[int, ...]] = {}

    @cached_property
    def plan(self) -> list[tuple[str, ...]]:
        """Item ids of each batch.

        Raises:
            InputError: an image is missing, or a prompt with its answer exceeds the model's
                context: known here before anything has run.
        """
        from vrp.vlm.batching import plan_batches, require_planned_contexts

        # Blank images are all alike: batches are then formed by length alone.
        rows = [
            (
                item.item_id, item.question, self._images.size(item),
                "" if self._blank else item.image_sha256,
            )
            for item in self.items.values()
        ]  # fmt: skip
        tasks = {item_id: item.task for item_id, item in self.items.items()}
        entries = require_planned_contexts(self.vlm, rows, tasks, self._max_new_tokens)
        return plan_batches(entries, batch_size=self._batch_size)

    def inputs(self, ids: Iterable[str]) -> "list[VlmInput]":
        """Return items as the model sees them."""
        return [self.input(self.items[item_id], blank=self._blank) for item_id in ids]

    def input(self, item: Item, *, blank: bool = False, seen: Item | None = None) -> "VlmInput":
        """Return an item as the model sees it.

        Args:
            item: whose question is asked.
            blank: show a grey image of the same size.
            seen: the item whose image is shown; None: its own.
        """
        from vrp.vlm.batching import VlmInput

        shown = seen or item
        if blank:
            size = self._images.size(shown)
            image, key = self._images.blank(size), self._images.blank_key(size, self.vlm)
        else:
            image, key = self._images.open(shown), shown.image_sha256
        truth = self._truth_token_ids(item) if self._truth else ()
        given = self._given.get(item.item_id)
        return VlmInput(item.item_id, image, item.question, item.task, truth, key, given)

    def _truth_token_ids(self, item: Item) -> tuple[int, ...]:
        if item.reference is None:
            return ()
        key = (item.task, item.reference)
        if key not in self._truth_tokens:
            usual = normalise_answer(*key) or item.reference
            self._truth_tokens[key] = self.vlm.answer_token_ids(surface_forms(*key), usual=usual)
        return self._truth_tokens[key]


def warn_skipped_items(stage: str, n_items: int, why: str) -> None:
    """Log how many items a stage leaves out, where there are any."""
    if n_items:
        logger.warning(f"{stage}: {n_items} items left out: {why}")

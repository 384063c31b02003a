"""Hide the most attended image tokens, and controls: does the answer depend on them?"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.extract import answer_limits
from vrp.config.sample import ScoringConfig
from vrp.data.intervention_items import other_image_items, stratified_subset
from vrp.data.item import Item
from vrp.data.sharding import shard_items
from vrp.errors import InputError
from vrp.interventions.masking import MaskableImage, MaskCondition, mask_conditions
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.image_rankings import ItemMaps, read_item_maps
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    check_same_model,
    load_model,
    read_judged_items,
    warn_skipped_items,
    with_revision,
    with_weights,
)
from vrp.running.outcomes import outcome, read_baseline_answers
from vrp.running.shard import Output, write_shard
from vrp.signals.boxes import box_coverage, grid_window
from vrp.signals.structural import MapProblem, map_problem, token_count
from vrp.stats.bootstrap import seed_from
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.boxes import BOXES
from vrp.tables.columns import rows_table
from vrp.tables.interventions import MASK
from vrp.tables.items import ITEMS, read_asked_items
from vrp.tables.parquet_files import read_table

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit, VlmInput
    from vrp.vlm.decode import ItemCapture, Prepared
    from vrp.vlm.families.base import Grid
    from vrp.vlm.model import VLM


logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Answer one shard of the masking subset under every condition; write the mask table.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, mask = context.study, context.model_config, context.study.mask
    seed, output, limit = study.seed, context.output_path("mask"), answer_limits(study.extract)
    answers, attention = context.input_paths("answers"), context.input_paths("attention")
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    provenance = with_revision(context.provenance, recorded)
    items = context.input_path("items")
    subset = stratified_subset(read_judged_items(items), mask.items, seed=seed)
    if subset.is_empty():  # nothing is right or wrong that an intervention could change
        nothing = [Output(output, MASK)]
        write_shard(nothing, [], tuple, provenance=provenance, description=context.label)
        return
    conditions = mask_conditions(mask)
    frame = shard_items(subset, n_shards=context.n_shards, shard=context.shard)
    baseline = read_baseline_answers(answers, frame["item_id"].to_list())
    maps = read_item_maps(
        attention, frame["item_id"].to_list(), image_of=_images(items, conditions)
    )
    boxes = read_boxes(context.input_paths("boxes"))
    vlm, images = load_model(model, recorded), StudyImages(study.data)
    provenance = with_weights(provenance, vlm)
    check_same_model([*answers, *attention], provenance)
    other: dict[str, str] = {}
    if any(condition.shows == "other" for condition in conditions):
        other = other_image_items(subset, seed=seed)
    masked = MaskedModel(
        vlm, images, seed, maps, boxes, as_items(subset), other, limit, context.batch_size
    )
    masked.require_layers(conditions)
    usable = [item_id for item_id in frame["item_id"] if masked.is_usable(item_id, conditions)]
    warn_skipped_items("mask", frame.height - len(usable), "they have no usable attention map")
    for condition in conditions:
        if condition.of_object and not any(map(masked.shows_object, usable)):
            logger.warning(
                "%s: no item asks for an object in its image; %s is run on no item",
                context.label, condition.name,
            )  # fmt: skip
    frame = frame.filter(pl.col("item_id").is_in(usable))
    # Items are asked under different conditions: no batch mixes them with others.
    parts = [
        (as_items(frame.filter(pl.col("item_id").is_in(ids))), asked)
        for asked, ids in _parts(subset, usable, conditions, masked, seed).items()
    ]
    batches_of = [masked.batches(part) for part, _ in parts]
    # The batches were planned for the items' own images; another one may be larger.
    masked.require_other_images_fit(as_items(frame))
    part_of = {item_id: place for place, (part, _) in enumerate(parts) for item_id in part}

    def compute(ids: Batch) -> BatchTables:
        from vrp.vlm.out_of_memory import split_to_fit

        _, asked = parts[part_of[ids[0]]]
        batches = batches_of[part_of[ids[0]]]

        def rows_of(some: slice) -> list[Mapping[str, Any]]:
            return masked.outcomes(batches, ids[some], asked, baseline, study.scoring)

        return (rows_table(MASK, split_to_fit(ids, rows_of)),)

    write_shard(
        [Output(output, MASK)],
        [ids for batches in batches_of for ids in batches.plan],
        compute,
        provenance=provenance,
        description=context.label,
        answers=lambda ids: len(ids) * len(parts[part_of[ids[0]]][1]),
        unit="answer",
    )


def _images(items: Path, conditions: Sequence[MaskCondition]) -> dict[str, str] | None:
    """Item → its image, where a condition asks which tokens are sinks."""
    if all(condition.ranking != "without_sinks" for condition in conditions):
        return None
    return dict(read_asked_items(items, ITEMS.only("group")).iter_rows())


def _parts(
    subset: pl.DataFrame,
    usable: Sequence[str],
    conditions: Sequence[MaskCondition],
    masked: "MaskedModel",
    seed: int,
) -> dict[tuple[MaskCondition, ...], list[str]]:
    """Conditions → the usable items that are asked under just these."""
    asked_of = {
        n: set(stratified_subset(subset, n, seed=seed)["item_id"])
        for n in {condition.n_items for condition in conditions}
        if n is not None
    }
    found: defaultdict[tuple[MaskCondition, ...], list[str]] = defaultdict(list)
    for item_id in usable:
        asked = [
            condition
            for condition in conditions
            if (condition.n_items is None or item_id in asked_of[condition.n_items])
            and (not condition.of_object or masked.shows_object(item_id))
        ]
        found[tuple(asked)].append(item_id)
    return found


class Coverage(NamedTuple):
    """What the tokens of an item's image lie on, in whole or in part."""

    on_object: NDArray[np.bool_]
    """(S,) on the object that the item asks for."""
    on_photograph: NDArray[np.bool_]
    """(S,) on the photograph, and not on padding alone."""


class ObjectBoxes(NamedTuple):
    """Where the object that an item asks for is."""

    boxes: NDArray[np.float64]
    """(n, 4) left, top, right, bottom, in pixels of the original image."""
    size: tuple[int, int]
    """Width and height of that image."""


def read_boxes(paths: Sequence[Path]) -> dict[str, ObjectBoxes]:
    """Return the boxes of every item that has some.

    Args:
        paths: the table of boxes; none where the study does not read it.

    Raises:
        InputError: the table is malformed.
    """
    if not paths:
        return {}
    table = read_table(paths, BOXES.only("image_width", "image_height", "boxes"))
    return {
        item_id: ObjectBoxes(np.array(boxes, dtype=np.float64), (width, height))
        for item_id, width, height, boxes in table.iter_rows()
        if len(boxes)
    }


@dataclass(frozen=True)
class MaskedModel:
    """A model that answers with image tokens hidden."""

    vlm: "VLM"
    images: StudyImages
    seed: int
    """The study's seed."""
    maps: Mapping[str, ItemMaps]
    """Attention by item id."""
    boxes: Mapping[str, ObjectBoxes]
    """Item id → where the object is that it asks for."""
    everyone: Mapping[str, Item]
    """All items of the masking subset by id, whichever shard they are in."""
    other: Mapping[str, str]
    """Item → the item whose image it is shown instead; empty where no condition does so."""
    max_new_tokens: "AnswerLimit"
    """Longest answer, for all items or by task."""
    batch_size: int
    """Items a forward."""
    _coverage: dict[str, Coverage | None] = field(default_factory=dict)
    """Item id → what its tokens lie on; None where that is not known."""
    _rankings: dict[tuple[str, str, tuple[int, int] | None], NDArray[np.float64]] = field(
        default_factory=dict
    )
    """Item id, ranking and layers → (S,) what ranks the tokens: many conditions rank alike."""

    def require_layers(self, conditions: Sequence[MaskCondition]) -> None:
        """Refuse layers that the model does not have.

        Raises:
            InputError: naming the condition and the layers there are.
        """
        for condition in conditions:
            if condition.layers is not None and condition.layers[1] >= self.vlm.n_layers:
                raise InputError(
                    f"mask.conditions: {condition.name} reads layers {condition.layers[0]} to "
                    f"{condition.layers[1]}, the model has 0 to {self.vlm.n_layers - 1}"
                )

    def is_usable(self, item_id: str, conditions: Sequence[MaskCondition]) -> bool:
        """Whether an item's tokens can be ranked as every condition asks."""
        if item_id not in self.maps:
            return False
        wanted = {(condition.ranking, condition.layers) for condition in conditions}
        return all(
            map_problem(self._ranked(item_id, ranking, layers)) == MapProblem.NONE
            for ranking, layers in wanted
            if ranking != "times_values"
        )

    def _ranked(
        self,
        item_id: str,
        ranking: str,
        layers: tuple[int, int] | None,
        value_norms: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """(S,) what ranks an item's tokens."""
        key = item_id, ranking, layers
        if key not in self._rankings:
            self._rankings[key] = self.maps[item_id].ranking(ranking, layers, value_norms)
        return self._rankings[key]

    def shows_object(self, item_id: str) -> bool:
        """Whether some image tokens of an item's photograph, and not all, lie on the object that
        it asks for."""
        found = self._covered(item_id)
        if found is None:
            return False
        return bool(found.on_object.any()) and not bool(found.on_object[found.on_photograph].all())

    def _covered(self, item_id: str) -> Coverage | None:
        if item_id not in self._coverage:
            self._coverage[item_id] = None
            if (known := self.boxes.get(item_id)) is not None:
                # The image that is shown may have another size than the annotated one.
                grid = self.vlm.grid(self.images.size(self.everyone[item_id]))
                window = grid_window(known.size, self.vlm.family.image_policy)
                sizes = {"grid_h": grid.height, "grid_w": grid.width}
                whole = [[0, 0, *known.size]]
                self._coverage[item_id] = Coverage(
                    box_coverage(known.boxes, window, **sizes) > 0,
                    box_coverage(whole, window, **sizes) > 0,
                )
        return self._coverage[item_id]

    def batches(self, items: Mapping[str, Item]) -> ItemBatches:
        """Return items in the batches that they are answered in."""
        return ItemBatches(
            self.vlm,
            items,
            self.images,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
        )

    def require_other_images_fit(self, items: Mapping[str, Item]) -> None:
        """Refuse items whose question about another item's image would exceed the context.

        Raises:
            InputError: naming the first such item and both lengths.
        """
        from vrp.vlm.batching import require_planned_contexts

        if not self.other:
            return
        asked = [
            (item_id, item.question, self.images.size(self.everyone[self.other[item_id]]), "")
            for item_id, item in items.items()
        ]
        tasks = {item_id: item.task for item_id, item in items.items()}
        require_planned_contexts(self.vlm, asked, tasks, self.max_new_tokens)

    def answers(
        self, batches: ItemBatches, ids: Sequence[str], conditions: Sequence[MaskCondition]
    ) -> "Iterator[tuple[MaskCondition, list[ItemCapture], list[dict[str, Any]]]]":
        """Yield the answers of one batch under each condition, and what was hidden of each item.

        Its images are encoded once for all conditions that show them.
        """
        from vrp.vlm.decode import prepare, run_batch

        n = self.max_new_tokens
        # Masks and replaced embeddings act behind the encoder: its output serves them all.
        prepared = prepare(self.vlm, batches.inputs(ids), max_new_tokens=n)
        norms = self._value_norms(prepared, conditions)
        for condition in conditions:
            if condition.shows == "own":
                keep = [
                    self._visible(condition, entry.item_id, grid, norms.get(entry.item_id))
                    for entry, grid in zip(prepared.inputs, prepared.grids, strict=True)
                ]
                shown, hiding = self._hidden(prepared, keep, condition.mode)
            else:
                keep = [np.zeros(grid.n_tokens, dtype=bool) for grid in prepared.grids]
                shown = self._other_image(batches, ids, condition)
                hiding = {}
            hidden = [
                {"share": condition.share if condition.share is not None else np.mean(~of_item),
                 "n_masked": np.sum(~of_item)} for of_item in keep
            ]  # fmt: skip
            yield condition, run_batch(self.vlm, shown, max_new_tokens=n, **hiding), hidden

    def outcomes(
        self,
        batches: ItemBatches,
        ids: Sequence[str],
        conditions: Sequence[MaskCondition],
        baseline: Mapping[str, str],
        scoring: ScoringConfig,
    ) -> list[Mapping[str, Any]]:
        """Return the mask table's rows of one batch.

        Args:
            batches: items in the batches that they are answered in.
            ids: the items of one batch.
            conditions: what is hidden of their images.
            baseline: greedy answers with nothing hidden, by item id.
            scoring: when an answer is correct.
        """
        return [
            {"condition": condition.name, "seed": condition.seed, **hidden}
            | outcome(batches.items[capture.item_id], capture, baseline, scoring)
            for condition, captures, of_items in self.answers(batches, ids, conditions)
            for capture, hidden in zip(captures, of_items, strict=True)
        ]

    def _value_norms(
        self, prepared: "Prepared", conditions: Sequence[MaskCondition]
    ) -> dict[str, NDArray[np.float64]]:
        if all(condition.ranking != "times_values" for condition in conditions):
            return {}
        from vrp.vlm.value_norms import value_norms

        found = value_norms(self.vlm, prepared)
        return {entry.item_id: own for entry, own in zip(prepared.inputs, found, strict=True)}

    def _other_image(
        self, batches: ItemBatches, ids: Sequence[str], condition: MaskCondition
    ) -> "list[VlmInput]":
        asked = [batches.items[item_id] for item_id in ids]
        if condition.shows == "blank":
            return [batches.input(item, blank=True) for item in asked]
        others = [self.everyone[self.other[item.item_id]] for item in asked]
        return [batches.input(item, seen=seen) for item, seen in zip(asked, others, strict=True)]

    def _hidden(
        self, prepared: "Prepared", keep: Sequence[np.ndarray], mode: str
    ) -> "tuple[Prepared | list[VlmInput], dict[str, Any]]":
        """Return what a batch shows with tokens hidden, and how they are."""
        from vrp.vlm.image_edits import AttentionMask, EmbeddingReplacement

        if mode == "attention":
            return prepared, {"mask": AttentionMask(keep)}
        if mode == "embedding":
            return prepared, {"replace": EmbeddingReplacement(keep, self._mean_embedding)}
        return [self._painted(entry, k) for entry, k in zip(prepared.inputs, keep, strict=True)], {}

    def _visible(
        self,
        condition: MaskCondition,
        item_id: str,
        grid: "Grid",
        value_norms: NDArray[np.float64] | None,
    ) -> np.ndarray:
        """Return (S,) boolean, False for the tokens that a condition hides of an item's image."""
        maps = self.maps[item_id]
        if maps.maps.shape[1] != grid.n_tokens:
            raise InputError(
                f"the attention table has {maps.maps.shape[1]} image tokens for item {item_id!r}, "
                f"the model {grid.n_tokens}; the image options have changed: rerun `vrp extract`"
            )
        image = MaskableImage(
            self._ranked(item_id, condition.ranking, condition.layers, value_norms),
            grid.height,
            grid.width,
            seed_from(self.seed, "mask", item_id, condition.seed),
            *(self._covered(item_id) or ()),
        )
        keep = np.ones(grid.n_tokens, dtype=bool)
        keep[condition.hidden_tokens(image)] = False
        if condition.share is None:
            return keep
        n_hidden, n_asked = np.sum(~keep), token_count(grid.n_tokens, condition.share)
        if n_hidden != n_asked:
            raise InputError(
                f"mask kind {condition.kind!r} hides {n_hidden} of the {grid.n_tokens} image "
                f"tokens of item {item_id!r}; let it return {n_asked} different ones"
            )
        return keep

    def _painted(self, entry: "VlmInput", visible: np.ndarray) -> "VlmInput":
        from vrp.vlm.image_edits import grey_patches

        boxes = self.vlm.patch_boxes(entry.image.size)
        return entry._replace(image=grey_patches(entry.image, boxes, visible), image_key="")

    @cached_property
    def _mean_embedding(self) -> np.ndarray:
        """(d_model,) mean image embedding over the whole subset, whichever shard runs."""
        from vrp.vlm.decode import prepare
        from vrp.vlm.image_edits import image_embedding_sum
        from vrp.vlm.out_of_memory import split_to_fit

        batches = self.batches(self.everyone)

        def sums_of(ids: Sequence[str]) -> list[tuple[np.ndarray, int]]:
            def sum_of(some: slice) -> list[tuple[np.ndarray, int]]:
                return [image_embedding_sum(prepare(self.vlm, batches.inputs(ids[some])))]

            return split_to_fit(ids, sum_of)

        # In float64, and in the order of the plan: the same mean in every shard.
        total, n_tokens = np.zeros(self.vlm.d_model), 0
        for ids in batches.plan:
            for batch_sum, n in sums_of(ids):
                total, n_tokens = total + batch_sum, n_tokens + n
        return total / n_tokens

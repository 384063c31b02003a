"""Hide the most attended image tokens, and controls: does the answer depend on them?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from vrp.config.extract import answer_limits
from vrp.config.mask import MaskConfig
from vrp.data.intervention_items import other_image_items, stratified_subset
from vrp.data.item import Item
from vrp.data.sharding import shard_items
from vrp.errors import InputError
from vrp.interventions.masking import MaskableImage, MaskCondition, mask_conditions
from vrp.running.finished_batches import Batch, BatchTables
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
from vrp.signals.structural import (
    MapProblem,
    average_layers,
    map_problem,
    token_count,
)
from vrp.stats.bootstrap import seed_from
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import is_captured
from vrp.tables.columns import rows_table
from vrp.tables.interventions import MASK
from vrp.tables.parquet_files import read_table

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit, VlmInput
    from vrp.vlm.decode import ItemCapture, Prepared
    from vrp.vlm.families.base import Grid
    from vrp.vlm.model import VLM


def run(context: StageContext) -> None:
    """Answer one shard of the masking subset under every condition; write the mask table.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, mask = context.study, context.model_config, context.study.mask
    seed, output, max_new_tokens = (
        study.seed,
        context.output_path("mask"),
        answer_limits(study.extract),
    )
    answers, attention = context.input_paths("answers"), context.input_paths("attention")
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    provenance = with_revision(context.provenance, recorded)
    subset = stratified_subset(
        read_judged_items(context.input_path("items")), mask.items, seed=seed
    )
    if subset.is_empty():  # nothing is right or wrong that an intervention could change
        nothing = [Output(output, MASK)]
        write_shard(nothing, [], tuple, provenance=provenance, description=context.label)
        return
    frame = shard_items(subset, n_shards=context.n_shards, shard=context.shard)
    baseline = read_baseline_answers(answers, frame["item_id"].to_list())
    maps = read_maps(attention, frame["item_id"].to_list())
    warn_skipped_items("mask", frame.height - len(maps), "they have no usable attention map")
    frame = frame.filter(pl.col("item_id").is_in(list(maps)))
    dosed = pl.col("item_id").is_in(
        stratified_subset(subset, mask.dose_items, seed=seed)["item_id"].to_list()
    )
    # Items of the dose curve are asked under more conditions: no batch mixes them with others.
    parts = [
        (as_items(frame.filter(dosed)), mask_conditions(mask, dose=True)),
        (as_items(frame.filter(~dosed)), mask_conditions(mask, dose=False)),
    ]
    vlm, images = load_model(model, recorded), StudyImages(study.data)
    provenance = with_weights(provenance, vlm)
    check_same_model([*answers, *attention], provenance)
    other: dict[str, str] = {}
    if any(condition.shows == "other" for condition in mask_conditions(mask)):
        other = other_image_items(subset, seed=seed)
    masked = MaskedModel(
        vlm, mask, images, seed, maps, as_items(subset), other, max_new_tokens, context.batch_size
    )
    batches_of = [masked.batches(part) for part, _ in parts]
    # The batches were planned for the items' own images; another one may be larger.
    masked.require_other_images_fit(as_items(frame))
    part_of = {item_id: place for place, (part, _) in enumerate(parts) for item_id in part}

    def compute(ids: Batch) -> BatchTables:
        from vrp.vlm.out_of_memory import split_to_fit

        part, conditions = parts[part_of[ids[0]]]
        batches = batches_of[part_of[ids[0]]]

        def rows_of(some: slice) -> list[Mapping[str, Any]]:
            answers = masked.answers(batches, ids[some], conditions)
            return [
                _what_is_hidden(condition, len(maps[capture.item_id]))
                | outcome(part[capture.item_id], capture, baseline, study.scoring)
                for condition, captures in answers
                for capture in captures
            ]

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


def read_maps(paths: Sequence[Path], item_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return M (S,), averaged over layers, of every item that has a usable map.

    Raises:
        InputError: a table is missing or malformed, lacks an item, or holds no attention.
    """
    table = read_table(paths, ATTENTION, columns=["maps"])
    if not is_captured(table["maps"]):
        raise InputError(
            f"{paths[0]}: attention was not captured; add attention to extract.capture and rerun "
            "`vrp extract`, or set mask.enabled to false"
        )
    table = table.filter(pl.col("item_id").is_in(list(item_ids)))
    maps: dict[str, np.ndarray] = {}
    for item_id, layers in table.select("item_id", "maps").iter_rows():
        average = average_layers(np.array(layers, dtype=np.float64))
        if map_problem(average) == MapProblem.NONE:
            maps[item_id] = average
    if absent := sorted(set(item_ids) - set(table["item_id"])):
        raise InputError(
            f"{paths[0]}: has no attention of item {absent[0]!r}; give all attention shards of "
            "this study, or rerun `vrp extract`"
        )
    return maps


@dataclass(frozen=True)
class MaskedModel:
    """A model that answers with image tokens hidden."""

    vlm: "VLM"
    mask: MaskConfig
    images: StudyImages
    seed: int
    """The study's seed."""
    maps: Mapping[str, np.ndarray]
    """M (S,) by item id."""
    everyone: Mapping[str, Item]
    """All items of the masking subset by id, whichever shard they are in."""
    other: Mapping[str, str]
    """Item → the item whose image it is shown instead; empty where no condition does so."""
    max_new_tokens: "AnswerLimit"
    """Longest answer, for all items or by task."""
    batch_size: int
    """Items a forward."""

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
    ) -> "Iterator[tuple[MaskCondition, list[ItemCapture]]]":
        """Yield the answers of one batch under each condition.

        Its images are encoded once for all conditions that show them.
        """
        from vrp.vlm.decode import prepare, run_batch

        n = self.max_new_tokens
        # Masks and replaced embeddings act behind the encoder: its output serves them all.
        prepared = prepare(self.vlm, batches.inputs(ids), max_new_tokens=n)
        for condition in conditions:
            shown, hiding = self._shown(batches, prepared, condition)
            yield condition, run_batch(self.vlm, shown, max_new_tokens=n, **hiding)

    def _shown(
        self, batches: ItemBatches, prepared: "Prepared", condition: MaskCondition
    ) -> "tuple[Prepared | list[VlmInput], dict[str, Any]]":
        """Return what a batch shows under a condition, and how it is shown."""
        from vrp.vlm.image_edits import AttentionMask, EmbeddingReplacement

        asked = [batches.items[entry.item_id] for entry in prepared.inputs]
        if condition.shows == "blank":
            return [batches.input(item, blank=True) for item in asked], {}
        if condition.shows == "other":
            others = [self.everyone[self.other[item.item_id]] for item in asked]
            pairs = zip(asked, others, strict=True)
            return [batches.input(item, seen=other) for item, other in pairs], {}
        keep = [
            self._visible(condition, item.item_id, grid)
            for item, grid in zip(asked, prepared.grids, strict=True)
        ]
        if self.mask.mode == "attention":
            return prepared, {"mask": AttentionMask(keep)}
        if self.mask.mode == "embedding":
            return prepared, {"replace": EmbeddingReplacement(keep, self._mean_embedding)}
        return [self._painted(entry, k) for entry, k in zip(prepared.inputs, keep, strict=True)], {}

    def _visible(self, condition: MaskCondition, item_id: str, grid: "Grid") -> np.ndarray:
        """Return (S,) boolean, False for the tokens that a condition hides of an item's image."""
        attention = self.maps[item_id]
        if len(attention) != grid.n_tokens:
            raise InputError(
                f"the attention table has {len(attention)} image tokens for item {item_id!r}, the "
                f"model {grid.n_tokens}; the image options have changed: rerun `vrp extract`"
            )
        seed = seed_from(self.seed, "mask", item_id, condition.seed)
        keep = np.ones(grid.n_tokens, dtype=bool)
        image = MaskableImage(attention, grid.height, grid.width, seed)
        keep[condition.hidden_tokens(image)] = False
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


def _what_is_hidden(condition: MaskCondition, n_tokens: int) -> dict[str, Any]:
    """Return the columns that say what was hidden; another image replaces every token."""
    return {
        "condition": condition.name,
        "seed": condition.seed,
        "share": condition.share,
        "n_masked": token_count(n_tokens, condition.share),
    }

"""How often does the model give the same answer again? K samples, and the exact distribution."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.config.consistency import ConsistencyConfig
from vrp.config.data import DataConfig
from vrp.config.models import ModelConfig
from vrp.config.sample import ScoringConfig
from vrp.data.item import Item
from vrp.data.scoring import normalise_answer
from vrp.data.sharding import shard_items
from vrp.running.captures import scored
from vrp.running.checkpoints import read_manifest
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    load_model,
    read_items,
    with_revision,
)
from vrp.running.shard import Output, write_shard
from vrp.signals.behavioural import self_consistency
from vrp.signals.exact_consistency import expected_self_consistency, majority_share
from vrp.tables.columns import rows_table
from vrp.tables.consistency import CONSISTENCY, EXACT_COLUMNS
from vrp.tables.files import require_writable
from vrp.tables.notes import NON_FINITE

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit
    from vrp.vlm.sampling import AnswerDistribution, ItemSamples


def run(
    *,
    seed: int,
    data: DataConfig,
    scoring: ScoringConfig,
    model: ModelConfig,
    consistency: ConsistencyConfig,
    n_shards: int,
    max_new_tokens: "AnswerLimit",
    manifest: Path,
    items: Path,
    shard: int,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Sample one shard's answers, and follow their distribution, from one prefill an item.

    Args:
        seed: the study's seed; noise derives from it, item, sample, step and token.
        data: where the images are.
        scoring: when an answer is correct.
        model: the model's section of the config.
        consistency: K, temperature, top-p, floor, batch size.
        n_shards: parts that the items are cut into.
        max_new_tokens: longest answer, for all items or by task.
        manifest: the model's manifest.
        items: `items.parquet`.
        shard: which shard, from 0.
        output: consistency shard to write.
        provenance: written into the table.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    require_writable(output)
    recorded = read_manifest(manifest, model)
    asked = as_items(shard_items(read_items(items), n_shards=n_shards, shard=shard))
    vlm = load_model(model, recorded)
    from vrp.vlm.sampling import sample_answers

    batches = ItemBatches(
        vlm, asked, StudyImages(data),
        batch_size=consistency.batch_size, max_new_tokens=max_new_tokens,
    )  # fmt: skip

    def compute(ids: Batch) -> BatchTables:
        samples = sample_answers(
            vlm,
            batches.inputs(ids),
            k=consistency.k,
            temperature=consistency.temperature,
            top_p=consistency.top_p,
            seed=seed,
            max_new_tokens=max_new_tokens,
            floor=consistency.floor,
        )
        rows = [_row(asked[sample.item_id], sample, scoring) for sample in samples]
        return (rows_table(CONSISTENCY, rows),)

    write_shard(
        [Output(output, CONSISTENCY)],
        batches.plan,
        compute,
        provenance=with_revision(provenance, recorded),
        description=f"consistency {provenance.get('model', '')}",
    )


def _row(item: Item, samples: "ItemSamples", scoring: ScoringConfig) -> dict[str, Any]:
    if not samples.finite:
        return _without_answers(item)
    normalised = [normalise_answer(item.task, answer) for answer in samples.answers]
    agreement = self_consistency(normalised)
    # The first sample of the majority stands for it: what is scored is an answer as given.
    majority_answer = samples.answers[normalised.index(agreement.majority)]
    return {
        "item_id": item.item_id,
        "answers": list(samples.answers),
        "normalised": normalised,
        "self_consistency": agreement.score,
        "majority": agreement.majority,
        "majority_correct": scored(item, majority_answer, scoring).correct,
        "close_draws": samples.close_draws,
        "note": None,
        **_exact_columns(item, samples.distribution, k=len(normalised)),
    }


def _without_answers(item: Item) -> dict[str, Any]:
    """The row of an item whose logits are not finite: wrong, as in the answers table."""
    return {
        "item_id": item.item_id,
        "answers": [],
        "normalised": [],
        "self_consistency": math.nan,
        "majority": "",
        "majority_correct": False,
        "close_draws": 0,
        "note": NON_FINITE,
        **dict.fromkeys(EXACT_COLUMNS),
    }


def _exact_columns(item: Item, found: "AnswerDistribution | None", *, k: int) -> dict[str, Any]:
    """The distribution over normalised answers, and what it says of K samples."""
    if found is None:
        return dict.fromkeys(EXACT_COLUMNS)
    probability_of: dict[str, float] = {}
    for answer, probability in zip(found.answers, found.probabilities, strict=True):
        normalised = normalise_answer(item.task, answer)
        probability_of[normalised] = probability_of.get(normalised, 0.0) + probability
    ordered = sorted(probability_of.items(), key=lambda pair: (-pair[1], pair[0]))
    probabilities = [probability for _, probability in ordered]
    share = majority_share(probabilities, found.unresolved)
    expected = expected_self_consistency(probabilities, found.unresolved, k)
    return {
        "exact_answers": [answer for answer, _ in ordered],
        "exact_probabilities": probabilities,
        "unresolved": found.unresolved,
        "majority_share_low": share.low,
        "majority_share_high": share.high,
        "expected_consistency_low": expected.low,
        "expected_consistency_high": expected.high,
    }

"""How often does the model give the same answer again? K samples, and the exact distribution."""

import math
from typing import TYPE_CHECKING, Any

from vrp.config.extract import answer_limits
from vrp.config.sample import ScoringConfig
from vrp.data.item import Item
from vrp.data.scoring import normalise_answer
from vrp.running.captured_rows import scored
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    load_model,
    shard_of_items,
    with_revision,
    with_weights,
)
from vrp.running.shard import Output, write_shard
from vrp.signals.behavioural import self_consistency
from vrp.signals.exact_consistency import expected_self_consistency, majority_share
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.columns import rows_table
from vrp.tables.consistency import CONSISTENCY, EXACT_COLUMNS
from vrp.tables.notes import NON_FINITE

if TYPE_CHECKING:
    from vrp.vlm.answer_distribution import AnswerDistribution, ItemSamples


def run(context: StageContext) -> None:
    """Sample one shard's answers, and follow their distribution, from one prefill an item.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, consistency = context.study, context.model_config, context.study.consistency
    output, max_new_tokens = context.output_path("consistency"), answer_limits(study.extract)
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    asked = shard_of_items(context)
    vlm = load_model(model, recorded)
    from vrp.vlm.answer_distribution import sample_answers

    batches = ItemBatches(
        vlm, asked, StudyImages(study.data),
        batch_size=context.batch_size, max_new_tokens=max_new_tokens,
    )  # fmt: skip

    def compute(ids: Batch) -> BatchTables:
        samples = sample_answers(
            vlm,
            batches.inputs(ids),
            k=consistency.k,
            temperature=consistency.temperature,
            top_p=consistency.top_p,
            seed=study.seed,
            max_new_tokens=max_new_tokens,
            floor=consistency.floor,
        )
        rows = [consistency_row(asked[sample.item_id], sample, study.scoring) for sample in samples]
        return (rows_table(CONSISTENCY, rows),)

    write_shard(
        [Output(output, CONSISTENCY)],
        batches.plan,
        compute,
        provenance=with_weights(with_revision(context.provenance, recorded), vlm),
        description=context.label,
    )


def consistency_row(item: Item, samples: "ItemSamples", scoring: ScoringConfig) -> dict[str, Any]:
    """Return an item's row: its samples, and the distribution over its normalised answers."""
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
    """The row of an item whose logits are not finite: wrong, as in the answers table, if judged."""
    return {
        "item_id": item.item_id,
        "answers": [],
        "normalised": [],
        "self_consistency": math.nan,
        "majority": "",
        "majority_correct": None if item.reference is None else False,
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

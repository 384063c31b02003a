"""Sample K answers an item: how often does the model give the same answer again?"""

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
from vrp.signals.behavioural import self_consistency
from vrp.stages.captures import scored
from vrp.stages.checkpoints import read_manifest
from vrp.stages.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    load_model,
    progress,
    read_items,
    with_revision,
)
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.files import require_writable, write_table

if TYPE_CHECKING:
    from vrp.vlm.sampling import ItemSamples


def run(
    *,
    seed: int,
    data: DataConfig,
    scoring: ScoringConfig,
    model: ModelConfig,
    consistency: ConsistencyConfig,
    n_shards: int,
    max_new_tokens: int,
    manifest: Path,
    items: Path,
    shard: int,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Sample one shard's answers from one prefill an item; write the consistency table.

    Args:
        seed: the study's seed; noise derives from it, item, sample and step.
        data: where the images are.
        scoring: when an answer is correct.
        model: the model's section of the config.
        consistency: K, temperature, top-p, batch size.
        n_shards: parts that the items are cut into.
        max_new_tokens: longest answer.
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

    batches = ItemBatches(vlm, asked, StudyImages(data), batch_size=consistency.batch_size)
    rows: list[dict[str, Any]] = []
    with progress(len(asked), f"consistency {provenance.get('model', '')}") as bar:
        for batch in batches:
            samples = sample_answers(
                vlm,
                batch,
                k=consistency.k,
                temperature=consistency.temperature,
                top_p=consistency.top_p,
                seed=seed,
                max_new_tokens=max_new_tokens,
            )
            rows += [_row(asked[sample.item_id], sample, scoring) for sample in samples]
            bar.update(len(batch))
    columns = {name: [row[name] for row in rows] for name in CONSISTENCY.columns.names}
    write_table(output, CONSISTENCY, columns, provenance=with_revision(provenance, recorded))


def _row(item: Item, samples: "ItemSamples", scoring: ScoringConfig) -> dict[str, Any]:
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
    }

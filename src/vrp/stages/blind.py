"""Ask every question of a shard again with a blank image: a guard beside every probe."""

from collections.abc import Mapping
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.config.extract import ExtractConfig
from vrp.config.models import ModelConfig
from vrp.config.sample import ScoringConfig
from vrp.data.sharding import shard_items
from vrp.stages.captures import Output, answer_rows, hidden_rows, write_together
from vrp.stages.checkpoints import read_manifest
from vrp.stages.model_run import (
    ItemBatches,
    StudyImages,
    answer_all,
    as_items,
    load_model,
    read_items,
    with_revision,
)
from vrp.tables.answers import ANSWERS
from vrp.tables.files import require_writable
from vrp.tables.hidden import hidden_table


def run(
    *,
    data: DataConfig,
    scoring: ScoringConfig,
    model: ModelConfig,
    extract: ExtractConfig,
    manifest: Path,
    items: Path,
    shard: int,
    answers: Path,
    hidden: Path,
    provenance: Mapping[str, str],
) -> None:
    """Answer one shard with grey images of the items' own sizes; write answers and hidden states.

    Args:
        data: where the images are, whose sizes are read.
        scoring: when an answer is correct.
        model: the model's section of the config.
        extract: shards, batch size, positions, storage: the same as with the images.
        manifest: the model's manifest.
        items: `items.parquet`.
        shard: which shard, from 0.
        answers: answers shard to write.
        hidden: hidden-state shard to write.
        provenance: written into the tables.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    require_writable(answers, hidden)
    recorded = read_manifest(manifest, model)
    asked = as_items(shard_items(read_items(items), n_shards=extract.shards, shard=shard))
    vlm = load_model(model, recorded)
    from vrp.vlm.decode import CaptureSpec

    batches = ItemBatches(vlm, asked, StudyImages(data), batch_size=extract.batch_size, blank=True)
    rows = [
        (answer_rows(captures, asked, scoring), hidden_rows(captures, dtype=extract.hidden_dtype))
        for captures in answer_all(
            batches,
            CaptureSpec(hidden=extract.positions),
            max_new_tokens=extract.max_new_tokens,
            description=f"blind {provenance.get('model', '')}",
        )
    ]
    size = {"n_layers": vlm.n_layers, "d_model": vlm.d_model}
    schemas = (ANSWERS, hidden_table(**size, dtype=extract.hidden_dtype))
    write_together(
        [
            Output(*output)
            for output in zip((answers, hidden), schemas, zip(*rows, strict=True), strict=True)
        ],
        provenance=with_revision(provenance, recorded),
    )

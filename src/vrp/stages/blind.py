"""Ask every question of a shard again with a blank image: a guard beside every probe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrp.config.data import DataConfig
from vrp.config.models import ModelConfig
from vrp.config.sample import ScoringConfig
from vrp.data.sharding import shard_items
from vrp.running.captures import answer_rows, hidden_rows
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
from vrp.tables.answers import ANSWERS
from vrp.tables.files import require_writable
from vrp.tables.hidden import hidden_table

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit


def run(
    *,
    data: DataConfig,
    scoring: ScoringConfig,
    model: ModelConfig,
    n_shards: int,
    batch_size: int,
    max_new_tokens: "AnswerLimit",
    positions: Sequence[str],
    hidden_dtype: str,
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
        n_shards: parts that the items are cut into; this and the next four as with the images.
        batch_size: items a forward.
        max_new_tokens: longest answer, for all items or by task.
        positions: where the residual stream is kept.
        hidden_dtype: how hidden states are stored.
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
    asked = as_items(shard_items(read_items(items), n_shards=n_shards, shard=shard))
    vlm = load_model(model, recorded)
    from vrp.vlm.decode import CaptureSpec, run_batch

    batches = ItemBatches(
        vlm, asked, StudyImages(data),
        batch_size=batch_size, blank=True, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    spec = CaptureSpec(hidden=tuple(positions))

    def compute(ids: Batch) -> BatchTables:
        captures = run_batch(vlm, batches.inputs(ids), spec, max_new_tokens=max_new_tokens)
        return answer_rows(captures, asked, scoring), hidden_rows(captures, dtype=hidden_dtype)

    schema = hidden_table(n_layers=vlm.n_layers, d_model=vlm.d_model, dtype=hidden_dtype)
    write_shard(
        [Output(answers, ANSWERS), Output(hidden, schema)],
        batches.plan,
        compute,
        provenance=with_revision(provenance, recorded),
        description=f"blind {provenance.get('model', '')}",
    )

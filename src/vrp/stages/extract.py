"""Ask the model about every item of a shard, and keep what can be read on the way."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vrp.config.data import DataConfig
from vrp.config.extract import ExtractConfig, answer_limits
from vrp.config.models import ModelConfig
from vrp.config.sample import ScoringConfig
from vrp.data.sharding import shard_items
from vrp.running.attention_captures import attention_rows
from vrp.running.captures import answer_rows, hidden_rows, lens_rows
from vrp.running.checkpoints import read_manifest
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    first_prompts,
    how_it_ran,
    load_model,
    read_items,
    with_revision,
)
from vrp.running.shard import Output, write_shard
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import CAPTURED
from vrp.tables.files import require_writable
from vrp.tables.hidden import hidden_table
from vrp.tables.lens import LENS
from vrp.vlm.capture import CaptureSpec

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture


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
    attention: Path,
    hidden: Path,
    lens: Path,
    provenance: Mapping[str, str],
) -> None:
    """Answer one shard greedily; write answers, attention, hidden states and lens together.

    Args:
        data: where the images are.
        scoring: when an answer is correct.
        model: the model's section of the config.
        extract: shards, batch size, what is captured, positions, storage.
        manifest: the model's manifest.
        items: `items.parquet`.
        shard: which shard, from 0.
        answers: answers shard to write.
        attention: attention shard to write.
        hidden: hidden-state shard to write.
        lens: lens shard to write.
        provenance: written into the tables.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    require_writable(answers, attention, hidden, lens)
    recorded = read_manifest(manifest, model)
    asked = as_items(shard_items(read_items(items), n_shards=extract.shards, shard=shard))
    vlm = load_model(model, recorded)
    images = StudyImages(data)
    longest = answer_limits(extract.max_new_tokens, extract.max_new_tokens_by_task)
    batches = ItemBatches(
        vlm, asked, images, batch_size=extract.batch_size, truth=True, max_new_tokens=longest
    )
    from vrp.vlm.decode import run_batch

    spec = capture_spec(extract)

    def compute(ids: Batch) -> "list[ItemCapture]":
        return run_batch(vlm, batches.inputs(ids), spec, max_new_tokens=longest)

    def tabulate(captures: "list[ItemCapture]") -> BatchTables:
        return (
            answer_rows(captures, asked, scoring),
            attention_rows(captures),
            hidden_rows(captures, dtype=extract.hidden_dtype),
            lens_rows(captures),
        )

    def whole(ids: Batch) -> BatchTables:
        return tabulate(compute(ids))

    # H_s and C_k of every head take half as long as a GPU's forward, which waits for nobody. On the
    # CPU the two would share the cores, and a killed job would lose two batches instead of one.
    on_cpu = vlm.device.type == "cpu"
    size = {"n_layers": vlm.n_layers, "d_model": vlm.d_model}
    write_shard(
        [
            Output(answers, ANSWERS),
            Output(attention, ATTENTION),
            Output(hidden, hidden_table(**size, dtype=extract.hidden_dtype)),
            Output(lens, LENS),
        ],
        batches.plan,
        whole if on_cpu else compute,
        tabulate=None if on_cpu else tabulate,
        provenance=with_revision(provenance, recorded)
        | how_it_ran(vlm, model)
        | first_prompts(vlm, asked, images)
        | {CAPTURED: ",".join(extract.capture)},
        description=f"extract {provenance.get('model', '')}",
    )


def capture_spec(extract: ExtractConfig) -> CaptureSpec:
    """Return what the pass reads: hidden states always, the rest where the config asks for it."""
    return CaptureSpec.of(extract.capture, hidden=extract.positions)

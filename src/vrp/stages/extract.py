"""Ask the model about every item of a shard, and keep what can be read on the way."""

from typing import TYPE_CHECKING

from vrp.config.extract import ExtractConfig, answer_limits
from vrp.running.attention_rows import attention_rows
from vrp.running.captured_rows import answer_rows, hidden_rows, lens_rows
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    first_prompts,
    load_model,
    run_metadata,
    shard_of_items,
    with_revision,
    with_weights,
)
from vrp.running.shard import Output, write_shard
from vrp.study.context import StageContext
from vrp.tables.answers import ANSWERS
from vrp.tables.atomic_files import require_writable
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import CAPTURED
from vrp.tables.hidden import hidden_table
from vrp.tables.lens import LENS
from vrp.vlm.capture_spec import CaptureSpec

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture
    from vrp.vlm.model import VLM


def run(context: StageContext) -> None:
    """Answer one shard greedily; write answers, attention, hidden states and lens together.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, extract = context.study, context.model_config, context.study.extract
    outputs = [context.output_path(name) for name in ("answers", "attention", "hidden", "lens")]
    require_writable(*outputs)
    recorded = read_manifest(context.input_path("manifest"), model)
    asked = shard_of_items(context)
    vlm = load_model(model, recorded)
    images = StudyImages(study.data)
    longest = answer_limits(extract)
    batches = ItemBatches(
        vlm, asked, images, batch_size=context.batch_size, truth=True, max_new_tokens=longest
    )
    from vrp.vlm.decode import run_batch

    spec = capture_spec(extract)

    def compute(ids: Batch) -> "list[ItemCapture]":
        return run_batch(vlm, batches.inputs(ids), spec, max_new_tokens=longest)

    def tabulate(captures: "list[ItemCapture]") -> BatchTables:
        return (
            answer_rows(captures, asked, study.scoring),
            attention_rows(captures),
            hidden_rows(captures, dtype=extract.hidden_dtype),
            lens_rows(captures, asked),
        )

    def whole(ids: Batch) -> BatchTables:
        return tabulate(compute(ids))

    in_turn = _tabulates_in_turn(vlm)
    size = {"n_layers": vlm.n_layers, "d_model": vlm.d_model}
    write_shard(
        [
            Output(path, schema)
            for path, schema in zip(
                outputs,
                (ANSWERS, ATTENTION, hidden_table(**size, dtype=extract.hidden_dtype), LENS),
                strict=True,
            )
        ],
        batches.plan,
        whole if in_turn else compute,
        tabulate=None if in_turn else tabulate,
        provenance=with_weights(with_revision(context.provenance, recorded), vlm)
        | run_metadata(vlm, model)
        | first_prompts(vlm, asked, images)
        | {CAPTURED: ",".join(extract.capture)},
        description=context.label,
    )


def _tabulates_in_turn(vlm: "VLM") -> bool:
    """Whether a batch's tables are made before the next batch is computed, and not beside it.

    H_s and C_k of every head take half as long as a GPU's forward, which waits for nobody. On the
    CPU the two would share the cores, and a killed job would lose two batches instead of one.
    """
    return vlm.device.type == "cpu"


def capture_spec(extract: ExtractConfig) -> CaptureSpec:
    """Return what the pass reads: hidden states always, the rest where the config asks for it."""
    return CaptureSpec.of(extract.capture, hidden=extract.positions)

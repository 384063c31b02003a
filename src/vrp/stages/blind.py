"""Ask every question of a shard again with a blank image: a guard beside every probe."""

from typing import TYPE_CHECKING

from vrp.config.extract import answer_limits
from vrp.running.captured_rows import answer_rows, hidden_rows
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
from vrp.study.context import StageContext
from vrp.tables.answers import ANSWERS
from vrp.tables.atomic_files import require_writable
from vrp.tables.hidden import hidden_table

if TYPE_CHECKING:
    pass


def run(context: StageContext) -> None:
    """Answer one shard with grey images of the items' own sizes; write answers and hidden states.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, extract = context.study, context.model_config, context.study.extract
    answers, hidden = context.output_path("blind/answers"), context.output_path("blind/hidden")
    hidden_dtype, max_new_tokens = extract.hidden_dtype, answer_limits(extract)
    require_writable(answers, hidden)
    recorded = read_manifest(context.input_path("manifest"), model)
    asked = shard_of_items(context)
    vlm = load_model(model, recorded)
    from vrp.vlm.decode import CaptureSpec, run_batch

    batches = ItemBatches(
        vlm, asked, StudyImages(study.data),
        batch_size=context.batch_size, blank=True, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    spec = CaptureSpec(hidden=tuple(extract.positions))

    def compute(ids: Batch) -> BatchTables:
        captures = run_batch(vlm, batches.inputs(ids), spec, max_new_tokens=max_new_tokens)
        return answer_rows(captures, asked, study.scoring), hidden_rows(
            captures, dtype=hidden_dtype
        )

    schema = hidden_table(n_layers=vlm.n_layers, d_model=vlm.d_model, dtype=hidden_dtype)
    write_shard(
        [Output(answers, ANSWERS), Output(hidden, schema)],
        batches.plan,
        compute,
        provenance=with_weights(with_revision(context.provenance, recorded), vlm),
        description=context.label,
    )

"""Trace where the picture enters the answer, and from which layer on its state suffices."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vrp.data.intervention_items import stratified_subset
from vrp.data.sharding import shard_items
from vrp.errors import InputError
from vrp.interventions.tracing import (
    BLANK,
    CLEAN,
    KNOCKOUT_IMAGE,
    PATCH,
    TraceCondition,
    trace_conditions,
    window_length,
)
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    check_same_model,
    load_model,
    read_judged_items,
    with_revision,
    with_weights,
)
from vrp.running.outcomes import read_baseline_answers
from vrp.running.shard import Output, write_shard
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.columns import rows_table
from vrp.tables.trace import TRACE

if TYPE_CHECKING:
    import torch

    from vrp.vlm.tracing import LastToken


def run(context: StageContext) -> None:
    """Run one shard of the traced items under every knockout and patch; write the trace table.

    Raises:
        InputError: an input is missing or does not fit, or the window is longer than the model;
            nothing is written then.
    """
    study, model, trace = context.study, context.model_config, context.study.trace
    output, answers = context.output_path("trace"), context.input_paths("answers")
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    provenance = with_revision(context.provenance, recorded)
    subset = stratified_subset(
        read_judged_items(context.input_path("items")), trace.items, seed=study.seed
    )
    if subset.is_empty():
        nothing = [Output(output, TRACE)]
        write_shard(nothing, [], tuple, provenance=provenance, description=context.label)
        return
    frame = shard_items(subset, n_shards=context.n_shards, shard=context.shard)
    items = as_items(frame)
    read_baseline_answers(answers, frame["item_id"].to_list())  # of this study, and whole
    vlm = load_model(model, recorded)
    provenance = with_weights(provenance, vlm)
    check_same_model(answers, provenance)
    if window_length(trace.window, vlm.n_layers) > vlm.n_layers:
        raise InputError(
            f"trace.window: {trace.window} layers, but model {context.model!r} has "
            f"{vlm.n_layers}; give 1 to {vlm.n_layers}"
        )
    conditions = trace_conditions(trace.window, vlm.n_layers)
    batches = ItemBatches(
        vlm, items, StudyImages(study.data), batch_size=context.batch_size, max_new_tokens=1
    )

    def compute(ids: Batch) -> BatchTables:
        from vrp.vlm.out_of_memory import split_to_fit
        from vrp.vlm.prefill import prepare
        from vrp.vlm.tracing import LastToken

        def rows_of(some: slice) -> list[Mapping[str, Any]]:
            asked = [items[item_id] for item_id in ids[some]]
            clean, blank = (
                LastToken(vlm, prepare(vlm, [batches.input(item, blank=hidden) for item in asked]),
                          conditions)
                for hidden in (False, True)
            )  # fmt: skip
            return [
                {"item_id": item.item_id, **row}
                for condition, logits in traced(clean, blank, conditions)
                for item, row in zip(asked, read_out(condition, logits, clean.logits), strict=True)
            ]

        return (rows_table(TRACE, split_to_fit(ids, rows_of)),)

    write_shard(
        [Output(output, TRACE)],
        batches.plan,
        compute,
        provenance=provenance,
        description=context.label,
        answers=lambda ids: len(ids) * (len(conditions) + 2),
        unit="run",
    )


def traced(
    clean: "LastToken", blank: "LastToken", conditions: "list[TraceCondition]"
) -> "Iterator[tuple[TraceCondition, torch.Tensor]]":
    """Yield each condition with the logits (B, V) of the first answer token.

    Args:
        clean: the batch with its images, in which knockouts are made.
        blank: the same with blank images, into which states are put.
        conditions: the edits.
    """
    from vrp.vlm.tracing import Knockout, Patch

    yield TraceCondition(CLEAN), clean.logits
    yield TraceCondition(BLANK), blank.logits
    for condition in conditions:
        first, last = condition.layer, condition.last_layer
        if condition.kind == PATCH:
            yield condition, blank.under(Patch(first, clean.states[:, first + 1]))
        else:
            edit = Knockout(first, last, "image" if condition.kind == KNOCKOUT_IMAGE else "text")
            yield condition, clean.under(edit)


def read_out(
    condition: TraceCondition, logits: "torch.Tensor", clean: "torch.Tensor"
) -> list[dict[str, Any]]:
    """Return the columns of a condition, one row an item.

    Args:
        condition: what was done.
        logits: (B, V) of the first answer token under it.
        clean: (B, V) the same without an edit.
    """
    from vrp.vlm.lens import top_two

    pair = top_two(clean)
    top, runner_up = logits.gather(1, pair).double().unbind(1)
    finite = (logits.isfinite().all(1) & clean.isfinite().all(1)).cpu().numpy()
    margins = np.where(finite, (top - runner_up).cpu().numpy(), np.nan)
    same = (logits.argmax(1) == pair[:, 0]).cpu().numpy() & finite
    return [
        {**condition._asdict(), "margin": margin, "same_token": bool(kept)}
        for margin, kept in zip(margins.tolist(), same, strict=True)
    ]

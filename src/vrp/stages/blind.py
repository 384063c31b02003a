"""Ask every question of a shard again with a blank image: a guard beside every probe.

The answer that was given to the image is scored, too: how much likelier the image made it. Without
their images, many questions are the same input: it is run once for all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrp.config.extract import answer_limits
from vrp.errors import InputError
from vrp.running.captured_rows import answer_rows, blind_score_rows, hidden_rows
from vrp.running.equal_inputs import alike, result_of
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    check_same_model,
    load_model,
    shard_of_items,
    with_revision,
    with_weights,
)
from vrp.running.shard import Output, write_shard
from vrp.study.context import StageContext
from vrp.tables.answers import ANSWERS
from vrp.tables.atomic_files import require_writable
from vrp.tables.blind_scores import BLIND_SCORES
from vrp.tables.hidden import hidden_table
from vrp.tables.parquet_files import read_table

if TYPE_CHECKING:
    from vrp.vlm.batching import GivenAnswer


def run(context: StageContext) -> None:
    """Answer one shard with grey images of the items' own sizes; write answers, hidden states and
    the probability of the answers that were given to the images.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, extract = context.study, context.model_config, context.study.extract
    outputs = [
        context.output_path(name) for name in ("blind/answers", "blind/hidden", "blind_scores")
    ]
    hidden_dtype, max_new_tokens = extract.hidden_dtype, answer_limits(extract)
    require_writable(*outputs)
    recorded = read_manifest(context.input_path("manifest"), model)
    asked = shard_of_items(context)
    answered = context.input_paths("answers")
    given = read_given_answers(answered, asked)
    vlm = load_model(model, recorded)
    provenance = with_weights(with_revision(context.provenance, recorded), vlm)
    check_same_model(answered, provenance)
    from vrp.vlm.decode import CaptureSpec, run_batch

    images = StudyImages(study.data)
    # The task decides how long the answer may be.
    shown = {
        item_id: (item.question, item.task, images.blank_key(images.size(item), vlm))
        for item_id, item in asked.items()
    }
    runs = alike(shown, given)
    batches = ItemBatches(
        vlm, {item_id: asked[item_id] for item_id in runs}, images,
        batch_size=context.batch_size, blank=True,
        given={item_id: run.scored for item_id, run in runs.items()},
        max_new_tokens=max_new_tokens,
    )  # fmt: skip
    spec = CaptureSpec(hidden=tuple(extract.positions))

    def compute(ids: Batch) -> BatchTables:
        found = run_batch(vlm, batches.inputs(ids), spec, max_new_tokens=max_new_tokens)
        captures = [
            result_of(capture, runs[capture.item_id].scored, item_id, given[item_id])
            for capture in found
            for item_id in runs[capture.item_id].item_ids
        ]
        return (
            answer_rows(captures, asked, study.scoring),
            hidden_rows(captures, dtype=hidden_dtype),
            blind_score_rows(captures),
        )

    schema = hidden_table(n_layers=vlm.n_layers, d_model=vlm.d_model, dtype=hidden_dtype)
    write_shard(
        [
            Output(path, one)
            for path, one in zip(outputs, (ANSWERS, schema, BLIND_SCORES), strict=True)
        ],
        batches.plan,
        compute,
        provenance=provenance,
        description=context.label,
        answers=lambda ids: sum(len(runs[item_id].item_ids) for item_id in ids),
    )


def read_given_answers(
    paths: Sequence[Path], item_ids: Mapping[str, object]
) -> "dict[str, GivenAnswer]":
    """Return the answers that these items were given with their images.

    Raises:
        InputError: a table is missing or malformed, or an item has no answer.
    """
    from vrp.vlm.batching import GivenAnswer

    found = read_table(paths, ANSWERS, columns=["token_ids", "first_token_ids"])
    given = {
        item_id: GivenAnswer(tuple(token_ids), tuple(first or ()))
        for item_id, token_ids, first in found.iter_rows()
        if item_id in item_ids
    }
    if missing := [item_id for item_id in item_ids if item_id not in given]:
        raise InputError(
            f"{paths[0].parent}: has no answer to item {missing[0]!r}; rerun `vrp extract`"
        )
    return given

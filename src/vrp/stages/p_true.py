"""Ask the model whether its own answer is correct: P(True)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vrp.data.item import EXISTENCE, Item
from vrp.data.scoring import surface_forms
from vrp.errors import InputError
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
from vrp.running.outcomes import read_baseline_answers
from vrp.running.shard import Output, write_shard
from vrp.signals.behavioural import judged_true
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.columns import rows_table
from vrp.tables.notes import NO_TOKENS, NON_FINITE
from vrp.tables.p_true import P_TRUE

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture
    from vrp.vlm.model import VLM

JUDGEMENT = "{question} Proposed answer: {answer}. Is the proposed answer correct, yes or no?"
"""What is asked of an answer; the family puts its prompt around it."""


def run(context: StageContext) -> None:
    """Ask, of each item of one shard, whether the greedy answer is correct.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model = context.study, context.model_config
    output = context.output_path("p_true")
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    answered = context.input_paths("answers")
    items = shard_of_items(context)
    answers = read_baseline_answers(answered, items.keys())
    asked = judgements(items, answers)
    vlm = load_model(model, recorded)
    provenance = with_weights(with_revision(context.provenance, recorded), vlm)
    check_same_model(answered, provenance)
    from vrp.vlm.batching import GivenAnswer
    from vrp.vlm.decode import run_batch

    yes, no = (first_tokens(vlm, word) for word in ("yes", "no"))
    given = dict.fromkeys(asked, GivenAnswer((), (*yes, *no)))
    batches = ItemBatches(
        vlm, asked, StudyImages(study.data),
        batch_size=context.batch_size, given=given, max_new_tokens=1,
    )  # fmt: skip

    def compute(ids: Batch) -> BatchTables:
        captures = run_batch(vlm, batches.inputs(ids), max_new_tokens=1)
        return (judgement_rows(captures, asked, answers, n_yes=len(yes)),)

    write_shard(
        [Output(output, P_TRUE)], batches.plan, compute,
        provenance=provenance, description=context.label,
    )  # fmt: skip


def judgements(items: Mapping[str, Item], answers: Mapping[str, str]) -> dict[str, Item]:
    """Return the items with the question of the judgement in place of their own.

    Args:
        items: by id.
        answers: item → the answer to judge.
    """
    return {
        item_id: replace(
            item, question=JUDGEMENT.format(question=item.question, answer=answers[item_id])
        )
        for item_id, item in items.items()
    }


def first_tokens(vlm: "VLM", word: str) -> tuple[int, ...]:
    """Return the first tokens of every way to write yes, or no, as the judgement.

    Raises:
        InputError: the tokenizer has no first token for it that says the word.
    """
    found = vlm.answer_token_ids(surface_forms(EXISTENCE, word), usual=word)
    if not found:
        raise InputError(
            f"the model's tokenizer has no token that begins {word!r}: set p_true.enabled to false"
        )
    return found


def judgement_rows(
    captures: Sequence["ItemCapture"],
    asked: Mapping[str, Item],
    answers: Mapping[str, str],
    *,
    n_yes: int,
) -> pa.Table:
    """Return a batch's rows.

    Args:
        captures: with the log-probabilities of yes, then of no.
        asked: the items as they were asked.
        answers: item → the answer that is judged; an empty one has no judgement.
        n_yes: how many of them are of yes.
    """
    rows = []
    for capture in captures:
        assert capture.given is not None
        logprobs = capture.given.first
        p_true, mass = judged_true(logprobs[:n_yes], logprobs[n_yes:])
        note = None if np.isfinite(p_true) else NON_FINITE
        if not answers[capture.item_id]:
            p_true, mass, note = math.nan, math.nan, NO_TOKENS
        question = asked[capture.item_id].question
        values = (capture.item_id, question, p_true, mass, note)
        rows.append(dict(zip(P_TRUE.columns.names, values, strict=True)))
    return rows_table(P_TRUE, rows)

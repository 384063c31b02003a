"""What a model answered and what was read from it, as rows of the tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from vrp.config.sample import ScoringConfig
from vrp.data.item import EXISTENCE, Item
from vrp.data.scoring import Scored, score_answer
from vrp.errors import InputError
from vrp.tables.columns import lists, vectors
from vrp.tables.hidden import EMBED, layer_column
from vrp.tables.notes import (
    NO_REFERENCE,
    NO_TOKENS,
    NO_TRUTH_TOKENS,
    NON_FINITE,
    NON_FINITE_INSIDE,
)

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture

T = TypeVar("T")


def note(flags: Sequence[str]) -> str | None:
    """Return why values of a row are missing; None where none is."""
    reasons = {
        "non_finite": NON_FINITE,
        "non_finite_inside": NON_FINITE_INSIDE,
        "no_answer_tokens": NO_TOKENS,
    }
    return next((reason for flag, reason in reasons.items() if flag in flags), None)


def scored(item: Item, answer: str, scoring: ScoringConfig) -> Scored:
    """Score one answer as the config says."""
    return score_answer(
        item,
        answer,
        pope_parser=scoring.pope_parser,
        vqa_rule=scoring.vqa_rule,
        threshold=scoring.vqa_threshold,
    )


def answer_rows(
    captures: Sequence["ItemCapture"], items: Mapping[str, Item], scoring: ScoringConfig
) -> pa.Table:
    """Return a batch's rows of the answers table."""
    asked = [items[capture.item_id] for capture in captures]
    scores = [
        scored(item, capture.answer, scoring) for item, capture in zip(asked, captures, strict=True)
    ]
    official = [
        score_answer(item, capture.answer, pope_parser="official").correct
        if item.task == EXISTENCE
        else None
        for item, capture in zip(asked, captures, strict=True)
    ]
    columns: dict[str, Any] = {}
    if captures[0].first_token_ids is not None:
        ids = [given(capture.first_token_ids) for capture in captures]
        logprobs = [given(capture.first_token_logprobs) for capture in captures]
        columns["first_token_ids"] = lists(ids, np.int32)
        columns["first_token_logprobs"] = lists(logprobs, np.float32)
    return pa.table(
        columns
        | {
            "item_id": [capture.item_id for capture in captures],
            "answer": [capture.answer for capture in captures],
            "parsed": pa.array([score.parsed for score in scores], pa.string()),
            "score": pa.array([score.score for score in scores], pa.float32()),
            "correct": pa.array([score.correct for score in scores], pa.bool_()),
            "correct_official": pa.array(official, pa.bool_()),
            "token_ids": lists([capture.token_ids for capture in captures], np.int32),
            "token_logprobs": lists([capture.token_logprobs for capture in captures], np.float32),
            "first_token_entropy": [capture.first_token_entropy for capture in captures],
            "decision_margin": [capture.decision_margin for capture in captures],
            "close_choices": [capture.close_choices for capture in captures],
            "n_prompt_tokens": [capture.n_prompt_tokens for capture in captures],
            "n_image_tokens": [capture.grid_h * capture.grid_w for capture in captures],
            "note": pa.array([note(capture.flags) for capture in captures], pa.string()),
        }
    )


def blind_score_rows(captures: Sequence["ItemCapture"]) -> pa.Table:
    """Return a batch's rows of the table of given answers' probabilities."""
    scores = [given(capture.given) for capture in captures]
    return pa.table(
        {
            "item_id": [capture.item_id for capture in captures],
            "token_logprobs": lists([score.tokens for score in scores], np.float32),
            "first_token_logprobs": lists([score.first for score in scores], np.float32),
        }
    )


def hidden_rows(captures: Sequence["ItemCapture"], *, dtype: str) -> pa.Table:
    """Return a batch's rows of the hidden-state table, one for each item and position.

    Args:
        captures: with hidden states.
        dtype: float32 or float16.

    Raises:
        InputError: a finite value that float16 cannot hold.
    """
    keys, states = [], []
    for capture in captures:
        for position, state in given(capture.hidden).items():
            keys.append((capture.item_id, position))
            states.append(state)
    stored = _stored(np.stack(states), keys, dtype)  # (rows, L + 1, d_model)
    names = [EMBED, *(layer_column(i) for i in range(stored.shape[1] - 1))]
    return pa.table(
        {
            "item_id": [item_id for item_id, _ in keys],
            "position": [position for _, position in keys],
            **{name: vectors(stored[:, i]) for i, name in enumerate(names)},
        }
    )


def _stored(states: np.ndarray, keys: Sequence[tuple[str, str]], dtype: str) -> np.ndarray:
    largest = np.finfo(dtype).max
    overflow = np.isfinite(states) & (np.abs(states) > largest)
    if overflow.any():
        row, layer, neuron = np.argwhere(overflow)[0]
        place = "embed" if layer == 0 else f"layer {layer - 1}"
        raise InputError(
            f"hidden state of item {keys[row][0]} at {keys[row][1]}, {place}, neuron {neuron} is "
            f"{states[row, layer, neuron]:.6g}, beyond {dtype}; "
            "set extract.hidden_dtype to float32"
        )
    return states.astype(dtype)


def lens_rows(captures: Sequence["ItemCapture"], items: Mapping[str, Item]) -> pa.Table:
    """Return a batch's rows of the lens table, without the columns that were not asked for."""
    columns: dict[str, Any] = {
        "item_id": [capture.item_id for capture in captures],
        "note": pa.array(
            [_lens_note(capture.flags, items[capture.item_id]) for capture in captures],
            pa.string(),
        ),
    }
    first = captures[0]
    if first.lens_decision_margin is not None:
        columns |= {
            "truth_margin": lists([given(c.lens_truth_margin) for c in captures], np.float32),
            "decision_margin": lists([given(c.lens_decision_margin) for c in captures], np.float32),
        }
    if first.pair is not None:
        attention = [given(capture.attention_contribution) for capture in captures]
        pairs = [given(capture.pair) for capture in captures]
        columns |= {
            "pair_top": [top for top, _ in pairs],
            "pair_runner_up": [runner_up for _, runner_up in pairs],
            "embed_contribution": [given(capture.contribution_embed) for capture in captures],
            "attention_contribution": lists(attention, np.float32),
            "mlp_contribution": lists([given(c.mlp_contribution) for c in captures], np.float32),
            # Of the pair by its definition: the two highest logits.
            "logit_difference": [capture.decision_margin for capture in captures],
        }
    if first.residual_update is not None:
        updates = [given(capture.residual_update) for capture in captures]
        columns["residual_update"] = lists(updates, np.float32)
    return pa.table(columns)


def _lens_note(flags: Sequence[str], item: Item) -> str | None:
    """Say why values of an item's lens are missing: an answer without tokens misses none."""
    if "non_finite" in flags:
        return NON_FINITE
    no_truth = NO_REFERENCE if item.reference is None else NO_TRUTH_TOKENS
    reasons = {"no_truth_tokens": no_truth, "non_finite_inside": NON_FINITE_INSIDE}
    return "; ".join(reason for flag, reason in reasons.items() if flag in flags) or None


def given(value: T | None) -> T:
    """Return a value that the model was asked for.

    Raises:
        ValueError: it was not.
    """
    if value is None:
        raise ValueError("the model was not asked for what this table holds")
    return value

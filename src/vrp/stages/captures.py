"""What a model answered and what was read of it, as rows of the tables."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from vrp.config.sample import ScoringConfig
from vrp.data.item import POPE, Item
from vrp.data.scoring import Scored, score_answer
from vrp.errors import InputError
from vrp.signals.structural import (
    MapProblem,
    cluster_count_dbscan,
    map_problem,
    renormalise,
    spatial_entropy,
)
from vrp.stages.columns import lists, nested_lists, vectors
from vrp.tables.files import whole_file, write_table
from vrp.tables.hidden import EMBED, layer_column
from vrp.tables.schema import TableSchema

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture

T = TypeVar("T")

# Attention values in memory as float64 at a time.
_VALUES_A_STACK = 4_000_000


class Output(NamedTuple):
    """One table that a stage writes."""

    path: Path
    """The file."""
    schema: TableSchema
    """Its contract."""
    batches: Sequence[pa.Table]
    """Its rows, batch by batch; at least one."""


def write_together(outputs: Sequence[Output], *, provenance: Mapping[str, str]) -> None:
    """Write several tables; none appears before all of them could be written.

    Raises:
        InputError: a folder cannot be written, or the disk is full.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(whole_file(output.path)) for output in outputs]
        for part, output in zip(parts, outputs, strict=True):
            table = pa.concat_tables(output.batches)
            write_table(part, output.schema, table, provenance=provenance)


def note(flags: Sequence[str]) -> str | None:
    """Return why values of a row are missing; None where none is."""
    if "non_finite" in flags:
        return "non-finite activations"
    return "zero-token answer" if "no_answer_tokens" in flags else None


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
        if item.dataset == POPE
        else None
        for item, capture in zip(asked, captures, strict=True)
    ]
    return pa.table(
        {
            "item_id": [capture.item_id for capture in captures],
            "answer": [capture.answer for capture in captures],
            "parsed": pa.array([score.parsed for score in scores], pa.string()),
            "score": [score.score for score in scores],
            "correct": [score.correct for score in scores],
            "correct_official": pa.array(official, pa.bool_()),
            "token_ids": lists([capture.token_ids for capture in captures], np.int32),
            "token_logprobs": lists([capture.token_logprobs for capture in captures], np.float32),
            "first_token_entropy": [capture.first_token_entropy for capture in captures],
            "decision_margin": [capture.decision_margin for capture in captures],
            "n_prompt_tokens": [capture.n_prompt_tokens for capture in captures],
            "n_image_tokens": [capture.grid_h * capture.grid_w for capture in captures],
            "note": pa.array([note(capture.flags) for capture in captures], pa.string()),
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
        for position, state in _given(capture.hidden).items():
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


def lens_rows(captures: Sequence["ItemCapture"]) -> pa.Table:
    """Return a batch's rows of the lens table."""
    pairs = [_given(capture.pair) for capture in captures]
    decision = [_given(capture.lens_decision_margin) for capture in captures]
    attention = [_given(capture.attention_contribution) for capture in captures]
    return pa.table(
        {
            "item_id": [capture.item_id for capture in captures],
            "truth_margin": lists([_given(c.lens_truth_margin) for c in captures], np.float32),
            "decision_margin": lists(decision, np.float32),
            "pair_top": [top for top, _ in pairs],
            "pair_runner_up": [runner_up for _, runner_up in pairs],
            "embed_contribution": [_given(capture.contribution_embed) for capture in captures],
            "attention_contribution": lists(attention, np.float32),
            "mlp_contribution": lists([_given(c.mlp_contribution) for c in captures], np.float32),
            "logit_difference": [float(margins[-1]) for margins in decision],
            "residual_update": lists([_given(c.residual_update) for c in captures], np.float32),
        }
    )


class MapsOfItem(NamedTuple):
    """An item's attention to the image, as the attention table has it."""

    maps: np.ndarray
    """(L, S) M(l), renormalised; NaN where unusable."""
    image_mass: np.ndarray
    """(L,)"""
    head_entropy: np.ndarray
    """(L, H) H_s, nats."""
    head_clusters: np.ndarray
    """(L, H) C_k by DBSCAN."""
    note: str | None
    """Why values are missing."""


def attention_rows(captures: Sequence["ItemCapture"]) -> pa.Table:
    """Return a batch's rows of the attention table.

    Attention of an answer without tokens is missing: no query predicted one.
    """
    found: dict[str, MapsOfItem] = {}
    for stack in _stacks_of_one_grid(captures):
        ids = [capture.item_id for capture in stack]
        found.update(zip(ids, _maps_of_stack(stack), strict=True))
    maps = [found[capture.item_id] for capture in captures]
    heads = [_given(capture.head_contribution) for capture in captures]
    return pa.table(
        {
            "item_id": [capture.item_id for capture in captures],
            "grid_h": [capture.grid_h for capture in captures],
            "grid_w": [capture.grid_w for capture in captures],
            "maps": nested_lists([item.maps for item in maps], np.float32),
            "image_mass": lists([item.image_mass for item in maps], np.float32),
            "head_entropy": nested_lists([item.head_entropy for item in maps], np.float32),
            "head_clusters": nested_lists([item.head_clusters for item in maps], np.float32),
            "head_contribution": nested_lists(heads, np.float32),
            "note": pa.array([item.note for item in maps], pa.string()),
        }
    )


def _stacks_of_one_grid(captures: Sequence["ItemCapture"]) -> Iterator[list["ItemCapture"]]:
    """Group items that share a grid, in stacks small enough to work on in float64."""
    by_grid = sorted(captures, key=lambda capture: (capture.grid_h, capture.grid_w))
    for _, group in groupby(by_grid, key=lambda capture: (capture.grid_h, capture.grid_w)):
        same = list(group)
        size = max(1, _VALUES_A_STACK // max(1, _given(same[0].head_rows).size))
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _maps_of_stack(stack: Sequence["ItemCapture"]) -> list[MapsOfItem]:
    unanswered = np.array(["no_answer_tokens" in capture.flags for capture in stack])
    rows = np.stack([_given(capture.attention) for capture in stack]).astype(np.float64)
    head_rows = np.stack([_given(capture.head_rows) for capture in stack]).astype(np.float64)
    rows[unanswered] = np.nan
    head_rows[unanswered] = np.nan
    maps, mass = renormalise(rows)
    heads = renormalise(head_rows).map
    entropy = spatial_entropy(heads)
    grids = heads.reshape(*heads.shape[:-1], stack[0].grid_h, stack[0].grid_w)
    clusters = cluster_count_dbscan(grids)
    problems = map_problem(rows)
    return [
        MapsOfItem(maps[i], mass[i], entropy[i], clusters[i], _attention_note(capture, problems[i]))
        for i, capture in enumerate(stack)
    ]


def _attention_note(capture: "ItemCapture", problems: np.ndarray) -> str | None:
    flagged = note(capture.flags)
    unusable = problems[problems != MapProblem.NONE]
    if flagged is None and unusable.size:
        return f"attention: {MapProblem(int(unusable[0])).name.lower().replace('_', ' ')}"
    return flagged


def _given(value: T | None) -> T:
    if value is None:
        raise ValueError("the model was not asked for what this table holds")
    return value

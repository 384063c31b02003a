"""Attention that was read of an answer, as rows of the attention table.

Apart from the other tables' rows: a change of a structural signal concerns the extraction, and no
other run of the model.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from vrp.running.captured_rows import given, note
from vrp.signals.sinks import outlier_tokens
from vrp.signals.structural import (
    MapProblem,
    cluster_count_dbscan,
    map_problem,
    renormalise,
    spatial_entropy,
)
from vrp.tables.columns import lists, nested_lists
from vrp.tables.notes import NON_FINITE_INSIDE, ONE_IMAGE_TOKEN

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture

# Attention values in memory as float64 at a time: an item of a 7B model, little enough for the
# processor's cache and for memory that is used again (4 million took two to three times as long).
_VALUES_A_STACK = 600_000


class MapsOfItem(NamedTuple):
    """An item's attention to the image, as the attention table has it; None: not captured."""

    maps: np.ndarray
    """(L, S) M(l), renormalised; NaN where unusable."""
    image_mass: np.ndarray
    """(L,)"""
    head_entropy: np.ndarray | None
    """(L, H) H_s, nats."""
    head_clusters: np.ndarray | None
    """(L, H) C_k by DBSCAN."""
    note: str | None
    """Why values are missing."""


def attention_rows(captures: Sequence["ItemCapture"]) -> pa.Table:
    """Return a batch's rows of the attention table, without columns that were not asked for.

    Attention of an answer without tokens is missing: no query predicted one.
    """
    columns: dict[str, Any] = {
        "item_id": [capture.item_id for capture in captures],
        "grid_h": [capture.grid_h for capture in captures],
        "grid_w": [capture.grid_w for capture in captures],
        "note": pa.array([note(capture.flags) for capture in captures], pa.string()),
    }
    first = captures[0]
    if first.attention is not None:
        columns |= _map_columns(captures)
    if first.image_norms is not None:
        norms = [given(capture.image_norms) for capture in captures]
        columns["sinks"] = lists([np.flatnonzero(outlier_tokens(one)) for one in norms], np.int32)
    if first.head_contribution is not None:
        heads = [given(capture.head_contribution) for capture in captures]
        columns["head_contribution"] = nested_lists(heads, np.float32)
    return pa.table(columns)


def _map_columns(captures: Sequence["ItemCapture"]) -> dict[str, pa.Array]:
    found: dict[str, MapsOfItem] = {}
    for stack in _stacks_of_one_grid(captures):
        ids = [capture.item_id for capture in stack]
        found.update(zip(ids, _maps_of_stack(stack), strict=True))
    maps = [found[capture.item_id] for capture in captures]
    columns = {
        "maps": nested_lists([item.maps for item in maps], np.float32),
        "image_mass": lists([item.image_mass for item in maps], np.float32),
        "note": pa.array([item.note for item in maps], pa.string()),
    }
    if maps[0].head_entropy is not None:
        entropy = [given(item.head_entropy) for item in maps]
        clusters = [given(item.head_clusters) for item in maps]
        columns["head_entropy"] = nested_lists(entropy, np.float32)
        columns["head_clusters"] = nested_lists(clusters, np.float32)
    return columns


def _stacks_of_one_grid(captures: Sequence["ItemCapture"]) -> Iterator[list["ItemCapture"]]:
    """Group items that share a grid, in stacks small enough to work on in float64."""
    by_grid = sorted(captures, key=lambda capture: (capture.grid_h, capture.grid_w))
    for _, group in groupby(by_grid, key=lambda capture: (capture.grid_h, capture.grid_w)):
        same = list(group)
        rows = same[0].head_rows if same[0].head_rows is not None else given(same[0].attention)
        size = max(1, _VALUES_A_STACK // max(1, rows.size))
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _maps_of_stack(stack: Sequence["ItemCapture"]) -> list[MapsOfItem]:
    unanswered = np.array(["no_answer_tokens" in capture.flags for capture in stack])
    rows = np.stack([given(capture.attention) for capture in stack]).astype(np.float64)
    rows[unanswered] = np.nan
    maps, mass = renormalise(rows)
    problems = map_problem(rows)
    entropy, clusters, head_problems = _heads_of_stack(stack, unanswered)
    return [
        MapsOfItem(
            maps[i], mass[i], entropy[i], clusters[i],
            _attention_note(capture, problems[i], head_problems[i]),
        )
        for i, capture in enumerate(stack)
    ]  # fmt: skip


def _heads_of_stack(
    stack: Sequence["ItemCapture"], unanswered: np.ndarray
) -> tuple[Sequence[np.ndarray | None], ...]:
    """Return H_s, C_k and the problem of every head's own map, (L, H) for each item; None where
    not captured."""
    if stack[0].head_rows is None:
        return ([None] * len(stack),) * 3
    rows = np.stack([given(capture.head_rows) for capture in stack]).astype(np.float64)
    rows[unanswered] = np.nan
    maps = renormalise(rows).map
    grids = maps.reshape(*maps.shape[:-1], stack[0].grid_h, stack[0].grid_w)
    found = (spatial_entropy(maps), cluster_count_dbscan(grids), map_problem(rows))
    return tuple(list(values) for values in found)


def _attention_note(
    capture: "ItemCapture", problems: np.ndarray, head_problems: np.ndarray | None
) -> str | None:
    """Say why values of an item's attention are missing: the whole map's reason comes first."""
    flagged = note(capture.flags)
    if flagged not in (None, NON_FINITE_INSIDE):
        return flagged
    if capture.grid_h * capture.grid_w == 1:
        flagged = "; ".join(reason for reason in (ONE_IMAGE_TOKEN, flagged) if reason)
    for what, found in (("attention", problems), ("heads", head_problems)):
        unusable = [] if found is None else found[found != MapProblem.NONE].tolist()
        if unusable:
            return f"{what}: {MapProblem(unusable[0]).name.lower().replace('_', ' ')}"
    return flagged

"""Attention maps as the explorer holds them: each layer in sixteen steps of its largest value."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.explorer.chunks import Chunk
from vrp.interventions.conditions import StudyConditions
from vrp.interventions.masking import MaskableImage, MaskCondition
from vrp.running.image_rankings import ItemMaps, read_heavy_places
from vrp.signals.sinks import BoolArray, Grid, sink_mask
from vrp.signals.structural import MapProblem, map_problem
from vrp.tables.arrays import as_matrices, item_values
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import is_captured
from vrp.tables.parquet_files import read_batches

MAP_STEPS = 15
"""A map's largest value is so many steps; every other one is off by at most half a step."""
_ITEMS_AT_ONCE = 256
_HEADS = ("head_entropy", "head_clusters", "head_contribution")
_STEPS = {"image_mass": 1e-4, "head_clusters": 1.0}
STEP = 1e-3
"""Numbers by layer and by head are rounded to multiples of it."""


class ItemAttention(NamedTuple):
    """One item's attention, ready to be written; empty parts were not captured."""

    grid_h: int
    """Rows of image tokens."""
    grid_w: int
    """Columns of image tokens."""
    maps: bytes
    """M(l), layer by layer: two tokens a byte, the first in the lower half."""
    largest: NDArray[np.floating]
    """(n_layers,) largest value of each layer's map; NaN where the map is undefined."""
    sinks: bytes
    """Which tokens are sinks, layer by layer: eight tokens a byte, the first in the lowest bit."""
    hidden: bytes
    """Which tokens the masking hides, eight a byte; none where they cannot be ranked."""
    by_layer: Mapping[str, NDArray[np.floating]]
    """Other columns of the table: (n_layers,) or (n_layers, n_heads)."""
    note: str | None
    """Why a value is missing."""


def shown_masking(conditions: StudyConditions) -> MaskCondition:
    """Return the masking whose tokens are shown: the study's main one, or the papers' 30%."""
    main = conditions.main("mask")
    if isinstance(main, MaskCondition) and main.kind == "top" and main.ranking != "times_values":
        return main
    return MaskCondition("top", 0.3)


def read_attention(
    paths: Sequence[Path], image_of: Mapping[str, str], masking: MaskCondition
) -> Iterator[tuple[str, ItemAttention]]:
    """Yield every item of the attention table with its attention; few rows are in memory at once.

    Args:
        paths: all shards of the table.
        image_of: every item → its image.
        masking: a condition that hides tokens by attention.

    Raises:
        InputError: a table is missing or malformed.
    """
    heavy = read_heavy_places(paths, image_of) if paths else {}
    for rows in read_batches(paths, ATTENTION, n_rows=_ITEMS_AT_ONCE):
        known = is_captured(rows["sinks"])
        maps = list(as_matrices(rows["maps"])) if is_captured(rows["maps"]) else None
        columns = {name: _values(rows[name]) for name in ("image_mass", *_HEADS)}
        for i, row in enumerate(rows.select("item_id", "grid_h", "grid_w", "note").to_dicts()):
            grid = row["grid_h"], row["grid_w"]
            by_layer = {
                name: np.asarray(values[i])
                for name, values in columns.items()
                if values is not None
            }
            found = None if maps is None else np.asarray(maps[i])
            sinks = None
            if known and found is not None:
                sinks = _sinks(rows["sinks"][i].to_list(), found, heavy.get(grid))
            yield row["item_id"], _item(grid, found, sinks, masking, by_layer, row["note"])


def _values(column: pl.Series) -> Any:
    return item_values(column, ATTENTION.columns.field(column.name))


def _sinks(flat: list[int], maps: NDArray[np.floating], heavy: BoolArray | None) -> BoolArray:
    found = sink_mask(flat, *maps.shape)
    return found if heavy is None else found | heavy


def _item(
    grid: Grid,
    maps: NDArray[np.floating] | None,
    sinks: BoolArray | None,
    masking: MaskCondition,
    by_layer: Mapping[str, NDArray[np.floating]],
    note: str | None,
) -> ItemAttention:
    if maps is None:
        return ItemAttention(*grid, b"", np.empty(0), b"", b"", by_layer, note)
    usable = map_problem(maps) == MapProblem.NONE
    largest = np.where(usable, maps.max(axis=1), np.nan)
    steps = np.where(usable[:, None], MAP_STEPS * maps / largest[:, None], 0.0)
    return ItemAttention(
        *grid,
        _nibbles(np.rint(steps).astype(np.uint8)),
        largest,
        b"" if sinks is None else _bits(sinks),
        _bits(_hidden(grid, maps, sinks, masking)),
        by_layer,
        note,
    )


def _hidden(
    grid: Grid, maps: NDArray[np.floating], sinks: BoolArray | None, masking: MaskCondition
) -> BoolArray:
    """(S,) the tokens that the masking hides; none where they cannot be ranked."""
    hidden = np.zeros(maps.shape[1], dtype=bool)
    ranking = masking.ranking if sinks is not None else "attention"
    ranked = ItemMaps(maps, sinks).ranking(ranking, masking.layers)
    if map_problem(ranked) == MapProblem.NONE:
        hidden[masking.hidden_tokens(MaskableImage(ranked, *grid, seed=0))] = True
    return hidden


def _nibbles(values: NDArray[np.uint8]) -> bytes:
    flat = values.ravel()
    flat = np.append(flat, np.zeros(len(flat) % 2, dtype=np.uint8))
    return (flat[::2] | flat[1::2] << 4).tobytes()


def _bits(flags: BoolArray) -> bytes:
    return np.packbits(flags.ravel(), bitorder="little").tobytes()


def add_attention(chunk: Chunk, items: Sequence[ItemAttention | None]) -> None:
    """Add the attention of a block's items; an item without any has a grid of no tokens."""
    known = [one for one in items if one is not None]
    if not known:
        return
    chunk.add_integers("grid_h", [0 if one is None else one.grid_h for one in items])
    chunk.add_integers("grid_w", [0 if one is None else one.grid_w for one in items])
    chunk.add_words("attention_note", [None if one is None else one.note for one in items])
    if any(one.maps for one in known):
        chunk.add_bytes("maps", b"".join(one.maps for one in known))
        chunk.add_numbers("largest", np.concatenate([one.largest for one in known]))
        chunk.add_bytes("hidden", b"".join(one.hidden for one in known))
    if any(one.sinks for one in known):
        chunk.add_bytes("sinks", b"".join(one.sinks for one in known))
    for name in known[0].by_layer:
        values = np.stack([one.by_layer[name] for one in known])
        chunk.add_rounded(name, values, step=_STEPS.get(name, STEP))

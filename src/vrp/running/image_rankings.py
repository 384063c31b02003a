"""What an item's image tokens are ranked by, from the attention table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.signals.sinks import BoolArray, Grid, heavy_places, sink_mask, without_sinks
from vrp.signals.structural import MapProblem, average_layers, map_problem, renormalise
from vrp.tables.arrays import as_matrices
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import captured, is_captured
from vrp.tables.parquet_files import read_batches

# Items whose attention is in memory at a time as it is read.
_ITEMS_AT_ONCE = 4096
FloatArray = NDArray[np.float64]


class ItemMaps(NamedTuple):
    """An item's attention to its image."""

    maps: NDArray[np.floating]
    """(n_layers, S) M(l)."""
    sinks: BoolArray | None
    """(n_layers, S) which tokens are attention sinks; None where that was not captured."""

    def ranking(
        self,
        name: str,
        layers: tuple[int, int] | None,
        value_norms: FloatArray | None = None,
    ) -> FloatArray:
        """Return (S,) what ranks the tokens, mean over layers; NaN where it is unusable.

        Args:
            name: `attention`, `without_sinks` or `times_values`.
            layers: first and last decoder layer; None: all.
            value_norms: (n_layers, S) norm of each token's values, for `times_values`.

        Raises:
            InputError: sinks were not captured.
        """
        n_layers = len(self.maps)
        chosen = slice(None) if layers is None else slice(layers[0], layers[1] + 1)
        maps = np.asarray(self.maps[chosen], dtype=np.float64)
        if name == "without_sinks":
            if self.sinks is None:
                raise InputError(
                    "mask.conditions: without_sinks needs residual_update in extract.capture; add "
                    "it and rerun `vrp extract`, or choose another ranking"
                )
            maps = without_sinks(maps, self.sinks[chosen])
        if name == "times_values":
            assert value_norms is not None
            assert len(value_norms) == n_layers
            maps = renormalise(maps * value_norms[chosen]).map
        return average_layers(maps)


def read_item_maps(
    paths: Sequence[Path], item_ids: Sequence[str], *, image_of: Mapping[str, str] | None = None
) -> dict[str, ItemMaps]:
    """Return the maps of every item whose average over layers is usable.

    Args:
        paths: all shards of the attention table.
        item_ids: the items that are wanted.
        image_of: every item of the table → its image, where sinks are wanted.

    Raises:
        InputError: a table is missing or malformed, lacks an item, or holds no attention.
    """
    heavy = read_heavy_places(paths, image_of) if image_of is not None else {}
    wanted, seen = set(item_ids), set()
    found: dict[str, ItemMaps] = {}
    n_null = n_rows = 0
    for rows in _read(paths):
        n_null, n_rows = n_null + rows["maps"].null_count(), n_rows + len(rows)
        if rows["maps"].null_count():
            continue
        seen |= set(rows["item_id"]) & wanted
        rows = rows.filter(pl.col("item_id").is_in(item_ids))
        known = image_of is not None and is_captured(rows["sinks"])
        columns = (rows[name] for name in ("item_id", "grid_h", "grid_w", "sinks"))
        for item_id, height, width, flat, maps in zip(
            *columns, as_matrices(rows["maps"]), strict=True
        ):
            if map_problem(average_layers(maps)) != MapProblem.NONE:
                continue
            sinks = None
            if known:
                sinks = sink_mask(flat, *maps.shape)
                if (height, width) in heavy:
                    sinks |= heavy[height, width]
            found[item_id] = ItemMaps(maps.copy(), sinks)
    if not captured("maps", n_null, n_rows):
        raise InputError(
            f"{paths[0]}: attention was not captured; add attention to extract.capture and rerun "
            "`vrp extract`, or set mask.enabled to false"
        )
    if absent := sorted(wanted - seen):
        raise InputError(
            f"{paths[0]}: has no attention of item {absent[0]!r}; give all attention shards of "
            "this study, or rerun `vrp extract`"
        )
    return found


def read_heavy_places(paths: Sequence[Path], image_of: Mapping[str, str]) -> dict[Grid, BoolArray]:
    """Find where maps are heavy in most images; nothing where maps or sinks were not captured.

    Args:
        paths: all shards of the attention table.
        image_of: every item → its image.

    Raises:
        InputError: a table is missing or malformed.
    """
    complete = True

    def of_items() -> Iterator[tuple[Grid, NDArray[np.floating], str]]:
        nonlocal complete
        for rows in _read(paths):
            if rows["maps"].null_count() or rows["sinks"].null_count():
                complete = False
                return
            columns = (rows[name] for name in ("item_id", "grid_h", "grid_w"))
            for item_id, height, width, maps in zip(
                *columns, as_matrices(rows["maps"]), strict=True
            ):
                yield (height, width), maps, image_of[item_id]

    found = heavy_places(of_items())
    return found if complete else {}


def _read(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    columns = ("grid_h", "grid_w", "maps", "sinks")
    return read_batches(paths, ATTENTION, columns=columns, n_rows=_ITEMS_AT_ONCE)

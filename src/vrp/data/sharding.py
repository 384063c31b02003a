"""How items are cut into shards: a pure function of the items and the number of shards."""

import numpy as np
import polars as pl

from vrp.errors import InputError


def shard_items(items: pl.DataFrame, *, n_shards: int, shard: int) -> pl.DataFrame:
    """Return one of `n_shards` contiguous, nearly equal parts of the items.

    Items are ordered by (group, item_id), so the order of the table does not matter. A cut moves
    to the nearest border between two images, so that one image's questions stay together, unless
    that would leave a shard empty.

    Args:
        items: a table with columns `group` and `item_id`.
        n_shards: number of parts.
        shard: which part, from 0.

    Raises:
        InputError: `shard` is out of range, or there are more shards than items.
    """
    if not 0 <= shard < n_shards:
        raise InputError(f"shard {shard} is out of range; choose from 0 to {n_shards - 1}")
    if n_shards > items.height:
        raise InputError(
            f"{n_shards} shards are too many for {items.height} items; "
            "set `shards` to at most the number of items"
        )
    ordered = items.sort("group", "item_id")
    cuts = _cuts(ordered["group"].to_numpy(), n_shards)
    return ordered.slice(cuts[shard], cuts[shard + 1] - cuts[shard])


def _cuts(groups: np.ndarray, n_shards: int) -> list[int]:
    """Return the n_shards + 1 row numbers at which shards begin and end."""
    n = len(groups)
    even = np.array([i * n // n_shards for i in range(n_shards + 1)])
    borders = np.concatenate([[0], np.flatnonzero(groups[1:] != groups[:-1]) + 1, [n]])
    nearest = borders[np.abs(borders[None, :] - even[:, None]).argmin(axis=1)]
    whole_images = bool((np.diff(nearest) > 0).all())
    return [int(cut) for cut in (nearest if whole_images else even)]

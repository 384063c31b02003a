"""Shards: whole, disjoint, nearly equal, and blind to the order of the table."""

import polars as pl
import pytest

from vrp.data.sharding import shard_items
from vrp.errors import InputError


def items_of(groups: str) -> pl.DataFrame:
    """One item a letter, the letter being its image."""
    return pl.DataFrame(
        {"item_id": [f"{i:03d}" for i in range(len(groups))], "group": list(groups)}
    )


def shards(items: pl.DataFrame, n: int) -> list[pl.DataFrame]:
    return [shard_items(items, n_shards=n, shard=i) for i in range(n)]


def test_a_hand_worked_cut_moves_to_the_nearest_border_between_images():
    # Even cuts of 10 items in 3 are at 3 and 6; borders are at 4 and 6 (aaaa bb cccc).
    parts = shards(items_of("aaaabbcccc"), 3)
    assert ["".join(part["group"]) for part in parts] == ["aaaa", "bb", "cccc"]


@pytest.mark.parametrize("n_shards", [1, 2, 5, 7])
def test_shards_cover_every_item_once_and_split_no_image(n_shards: int):
    items = items_of("abcdefghij" * 9)
    parts = shards(items, n_shards)
    together = pl.concat(parts)
    assert sorted(together["item_id"]) == items["item_id"].to_list()
    groups = [set(part["group"]) for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    sizes = [part.height for part in parts]
    assert max(sizes) - min(sizes) <= 9  # one image's questions


def test_the_order_of_the_table_does_not_matter():
    items = items_of("abcabcabcaabbb")
    shuffled = items.sample(fraction=1, shuffle=True, seed=1)
    for one, other in zip(shards(items, 3), shards(shuffled, 3), strict=True):
        assert one.equals(other)


def test_one_image_is_split_where_a_shard_would_else_be_empty():
    parts = shards(items_of("aaaaaa"), 3)
    assert [part.height for part in parts] == [2, 2, 2]


@pytest.mark.parametrize(("n_shards", "shard"), [(3, 3), (3, -1), (9, 0)])
def test_a_shard_that_cannot_be_is_refused(n_shards: int, shard: int):
    with pytest.raises(InputError, match="shard"):
        shard_items(items_of("abc"), n_shards=n_shards, shard=shard)

import polars as pl
import pytest

from vrp.data.sharding import shard_items
from vrp.errors import InputError


def _items(group_sizes):
    rows = [
        {"group": f"g{g:03d}", "item_id": f"i{g:03d}-{k}"}
        for g, size in enumerate(group_sizes)
        for k in range(size)
    ]
    return pl.DataFrame(rows, schema={"group": pl.String, "item_id": pl.String})


@pytest.mark.parametrize("n_shards", [1, 2, 7, 30])
def test_shards_hold_every_item_once_and_split_no_group(n_shards):
    items = _items([1 + g % 6 for g in range(25)])
    shards = [
        shard_items(items.sample(fraction=1, shuffle=True, seed=s), n_shards, s)
        for s in range(n_shards)
    ]
    assert pl.concat(shards)["item_id"].to_list() == items["item_id"].to_list()
    groups = [set(shard["group"]) for shard in shards]
    assert sum(map(len, groups)) == 25


def test_shards_are_nearly_equal():
    items = _items([6] * 500)
    assert [len(shard_items(items, 7, s)) for s in range(7)] == [426, 432, 426, 432, 426, 432, 426]
    assert sum(len(shard_items(items, 7, s)) for s in range(7)) == 3000


def test_no_items_and_fewer_groups_than_shards():
    assert [len(shard_items(_items([]), 3, s)) for s in range(3)] == [0, 0, 0]
    assert sorted(len(shard_items(_items([5, 5]), 3, s)) for s in range(3)) == [0, 5, 5]


@pytest.mark.parametrize("shard", [-1, 3])
def test_shard_out_of_range_is_refused(shard):
    with pytest.raises(InputError, match="of 3: count shards from 0 to 2"):
        shard_items(_items([1]), 3, shard)

"""What the masking ranks image tokens by, on maps small enough to be worked by hand."""

import numpy as np
import polars as pl
import pytest

from vrp.errors import InputError
from vrp.running.image_rankings import ItemMaps, read_heavy_places, read_item_maps
from vrp.tables.attention import ATTENTION
from vrp.tables.parquet_files import write_table

MAPS = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
SINKS = np.array([[True, False, False, False], [False, False, False, False]])
NORMS = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]])
ITEM = ItemMaps(MAPS, SINKS)


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("attention", None, [0.25, 0.25, 0.25, 0.25]),
        ("attention", (1, 1), [0.1, 0.2, 0.3, 0.4]),
        # Of layer 0 the first token is left out, and the others make up one.
        ("without_sinks", (0, 0), [0.0, 1 / 2, 1 / 3, 1 / 6]),
        ("without_sinks", None, [0.05, 0.35, 19 / 60, 17 / 60]),
        # In layer 1 only the last token has values.
        ("times_values", None, [0.2, 0.15, 0.1, 0.55]),
    ],
)
def test_rankings_by_hand(name, layers, expected):
    assert ITEM.ranking(name, layers, NORMS) == pytest.approx(expected)


def test_sinks_that_were_not_captured_are_missed():
    with pytest.raises(InputError, match="without_sinks needs residual_update"):
        ItemMaps(MAPS, None).ranking("without_sinks", None)


def attention(path, n_items, *, heavy, sinks):
    """Maps of 2 layers and 10 tokens; in layer 1 the third place may hold nearly all."""
    even = [0.1] * 10
    third = [0.01] * 2 + [0.91] + [0.01] * 7
    nothing = [None] * n_items
    write_table(path, ATTENTION, {
        "item_id": [f"{path.stem}-{i}" for i in range(n_items)],
        "grid_h": [2] * n_items, "grid_w": [5] * n_items,
        "maps": [[even, third if heavy else even]] * n_items,
        "image_mass": [[0.5, 0.5]] * n_items, "sinks": [sinks] * n_items,
        "head_entropy": nothing, "head_clusters": nothing, "head_contribution": nothing,
        "note": nothing,
    }, provenance={})  # fmt: skip


@pytest.mark.parametrize("heavy", [True, False])
def test_sinks_are_outliers_and_places_that_are_heavy_in_most_images(tmp_path, heavy):
    path = tmp_path / "a.parquet"
    attention(path, 25, heavy=heavy, sinks=[1])  # the second token of layer 0
    ids = pl.read_parquet(path)["item_id"].to_list()
    image_of = {item_id: item_id for item_id in ids}
    found = read_item_maps([path], ids[:3], image_of=image_of)
    assert list(found) == ids[:3]
    sinks = found[ids[0]].sinks
    assert sinks is not None
    assert np.argwhere(sinks).tolist() == ([[0, 1], [1, 2]] if heavy else [[0, 1]])
    assert bool(read_heavy_places([path], image_of)[2, 5].any()) == heavy


def test_what_is_not_there_is_said(tmp_path):
    path = tmp_path / "a.parquet"
    attention(path, 3, heavy=False, sinks=[])
    (found,) = read_item_maps([path], ["a-1"]).values()
    assert found.sinks is None  # not asked for
    with pytest.raises(InputError, match="no attention of item 'b-0'"):
        read_item_maps([path], ["a-1", "b-0"])

"""The lists of shards that later stages wait for."""

from pathlib import Path

import pytest

from vrp.errors import InputError
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import column, table, text
from vrp.tables.seal import read_seal
from vrp.tables.shard_list import listed_shards, write_shard_list

MADE_BY = {"model": "toy", "code": "c0de"}
TABLE = table("toy", ("item_id",), column("item_id", text, "item"))


def shard(path, name):
    write_table(path, TABLE, {"item_id": [name]}, provenance={})
    return path


def write_list(path, shards, table="mask"):
    seals = {one: read_seal(one) for one in shards}
    write_shard_list(path, made_by=MADE_BY, shards={table: seals, "other": {}})
    return path


def test_the_shards_of_a_table_come_back_in_their_order(tmp_path):
    shards = [shard(tmp_path / "toy" / f"{i}.parquet", str(i)) for i in (1, 0)]
    path = write_list(tmp_path / "blind.json", shards, "blind/hidden")
    assert listed_shards(path, "blind/hidden") == shards
    assert listed_shards(path, "other") == []


def test_lists_of_several_models_are_read_one_after_the_other(tmp_path):
    shards = [shard(tmp_path / model / "000.parquet", model) for model in "ab"]
    lists = [write_list(one.with_suffix(".json"), [one]) for one in shards]
    assert listed_shards(lists, "mask") == shards
    assert listed_shards([], "mask") == []


def test_equal_shards_give_an_equal_list(tmp_path):
    lists = []
    for name in "ab":
        path = shard(tmp_path / name / "000.parquet", "x")
        lists.append(write_list(tmp_path / name / "mask.json", [path]))
    assert lists[0].read_bytes() == lists[1].read_bytes()


def test_a_folder_that_is_moved_whole_is_still_of_one_piece(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = shard(Path("results/toy/mask/000.parquet"), "x")
    write_list(Path("results/toy/mask.json"), [path])
    assert listed_shards(Path("results/toy/mask.json"), "mask") == [path]
    Path("results").rename("moved")
    assert listed_shards(Path("moved/toy/mask.json"), "mask") == [
        Path("moved/toy/mask/000.parquet")
    ]


def test_a_shard_that_was_replaced_is_refused(tmp_path):
    path = shard(tmp_path / "mask" / "000.parquet", "x")
    listed = write_list(tmp_path / "mask.json", [path])
    shard(path, "y")
    with pytest.raises(InputError, match=r"000\.parquet: is not the file that .*mask\.json lists"):
        listed_shards(listed, "mask")
    path.unlink()
    with pytest.raises(InputError, match=r"000\.parquet: no such file"):
        listed_shards(listed, "mask")


def test_an_edited_list_is_refused(tmp_path):
    listed = write_list(tmp_path / "mask.json", [shard(tmp_path / "000.parquet", "x")])
    listed.write_text(listed.read_text().replace("c0de", "c1de"))
    with pytest.raises(InputError, match="is not as it was written"):
        listed_shards(listed, "mask")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tables": {"other": {}}}', '{"tables": 1}'])
def test_what_lists_no_such_shards_is_refused(tmp_path, text):
    path = tmp_path / "extraction.json"
    with pytest.raises(InputError, match="run `vrp gather` first"):
        listed_shards(path, "answers")
    path.write_text(text)
    with pytest.raises(InputError, match="delete it and run `vrp gather` again"):
        listed_shards(path, "answers")


def test_a_table_that_is_not_listed_is_named(tmp_path):
    listed = write_list(tmp_path / "mask.json", [])
    with pytest.raises(InputError, match="lists no shards of the table answers"):
        listed_shards(listed, "answers")

"""The lists of shards that later stages wait for."""

from pathlib import Path

import pytest

from vrp.errors import InputError
from vrp.tables.shard_list import listed_shards, write_shard_list

MADE_BY = {"model": "toy", "code": "c0de"}


def test_the_shards_of_a_table_come_back_in_their_order(tmp_path):
    shards = {Path("toy/hidden/001.parquet"): "b", Path("toy/hidden/000.parquet"): "a"}
    path = tmp_path / "blind.json"
    write_shard_list(path, made_by=MADE_BY, shards={"blind/hidden": shards, "other": {}})
    assert listed_shards(path, "blind/hidden") == list(shards)


def test_lists_of_several_models_are_read_one_after_the_other(tmp_path):
    lists = [tmp_path / f"{model}.json" for model in "ab"]
    for path in lists:
        write_shard_list(path, made_by=MADE_BY, shards={"mask": {Path(path.stem, "000"): "x"}})
    assert listed_shards(lists, "mask") == [Path("a/000"), Path("b/000")]
    assert listed_shards([], "mask") == []


def test_equal_shards_give_an_equal_list(tmp_path):
    lists = [tmp_path / name for name in ("1.json", "2.json")]
    for path in lists:
        write_shard_list(path, made_by=MADE_BY, shards={"mask": {Path("000"): "x"}})
    assert lists[0].read_bytes() == lists[1].read_bytes()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tables": {"other": {}}}', '{"tables": 1}'])
def test_what_lists_no_such_shards_is_refused(tmp_path, text):
    path = tmp_path / "extraction.json"
    with pytest.raises(InputError, match="run `vrp gather` first"):
        listed_shards(path, "answers")
    path.write_text(text)
    with pytest.raises(InputError, match="lists no shards of the table answers"):
        listed_shards(path, "answers")

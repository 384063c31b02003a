"""The list of one model's extraction shards."""

import json

import pytest
from planted_study import write_planted_study

from vrp.data.images import file_sha256
from vrp.errors import InputError
from vrp.stages import gather
from vrp.tables.answers import ANSWERS
from vrp.tables.files import read_provenance, read_table, write_table


@pytest.fixture
def tables(tmp_path):
    return write_planted_study(tmp_path, n_images=30)


def with_provenance(path, into, **changes):
    origin = {k: v for k, v in read_provenance(path).items() if k != "table"} | changes
    write_table(into, ANSWERS, read_table(path, ANSWERS), provenance=origin)
    return into


def test_the_list_names_every_shard_with_its_checksum(tables, tmp_path):
    output = tmp_path / "extraction.json"
    gather.run(answers=[tables.answers], attention=[tables.attention], output=output)
    assert gather.read_gathered(output) == ([tables.answers], [tables.attention])
    content = json.loads(output.read_text())
    assert content["model"] == "toy"
    assert content["answers"] == {str(tables.answers): file_sha256(tables.answers)}


def test_equal_shards_made_again_give_an_equal_list(tables, tmp_path):
    first, again = tmp_path / "1.json", tmp_path / "2.json"
    gather.run(answers=[tables.answers], attention=[tables.attention], output=first)
    with_provenance(tables.answers, tables.answers)
    gather.run(answers=[tables.answers], attention=[tables.attention], output=again)
    assert first.read_text() == again.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "other"}, "model 'other', not 'toy'"),
        ({"revision": "abc"}, "revision 'abc', not ''"),
        ({"code": "abc"}, "other code"),
        ({"config": "abc"}, "other keys of the configuration"),
    ],
)
def test_shards_of_two_runs_are_refused(tables, tmp_path, changes, words):
    odd = with_provenance(tables.answers, tmp_path / "odd.parquet", **changes)
    output = tmp_path / "extraction.json"
    with pytest.raises(InputError, match=words):
        gather.run(answers=[tables.answers, odd], attention=[tables.attention], output=output)
    assert not output.exists()


def test_other_items_are_refused(tables, tmp_path):
    other = write_planted_study(tmp_path / "other", n_images=31)
    shards = {"answers": [tables.answers], "attention": [tables.attention]}
    output = tmp_path / "extraction.json"
    gather.run(**shards, items=[tables.items, tables.items], output=output)
    with pytest.raises(InputError, match=r"extraction_from: .* holds other items"):
        gather.run(**shards, items=[tables.items, other.items], output=output)


@pytest.mark.parametrize("text", ["{", "[]", '{"answers": []}'])
def test_what_is_no_list_is_refused(tmp_path, text):
    path = tmp_path / "extraction.json"
    with pytest.raises(InputError, match="run `vrp gather` first"):
        gather.read_gathered(path)
    path.write_text(text)
    with pytest.raises(InputError, match="is no list of extraction shards"):
        gather.read_gathered(path)

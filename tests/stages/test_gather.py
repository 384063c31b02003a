"""The list of the shards of one run of a model."""

import json
import shutil

import pytest
from planted_study import write_planted_study

from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.stages import gather
from vrp.study.context import StageContext, restricted
from vrp.tables.answers import ANSWERS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.seal import read_provenance, read_seal
from vrp.tables.shard_list import listed_shards

STUDY = study_from_mapping(
    {"study": "tiny", "models": {"toy": {"family": "llava", "checkpoint": "zoo:llava"}}}
)


@pytest.fixture
def folder(tmp_path):
    """A model's folder with one shard of answers and of attention."""
    tables = write_planted_study(tmp_path, n_images=30)
    for table in ("answers", "attention"):
        shard = tmp_path / "toy" / table / "000.parquet"
        shard.parent.mkdir(parents=True)
        shutil.copy(getattr(tables, table), shard)
    return tmp_path / "toy"


def listed(folder, output, n_shards=1, tables=("answers", "attention"), items=()):
    shards = {
        table: [folder / table / f"{i:03d}.parquet" for i in range(n_shards)] for table in tables
    }
    gather.run(
        StageContext(
            stage="gather",
            study=restricted(STUDY, ()),
            inputs={**shards, "items": items},
            outputs={"list": [output]},
        )
    )
    return output


def with_provenance(path, into, **changes):
    origin = {k: v for k, v in read_provenance(path).items() if k != "table"} | changes
    write_table(into, ANSWERS, read_table(path, ANSWERS), provenance=origin)
    return into


def test_the_list_names_every_shard_with_its_checksum(folder, tmp_path):
    answers, attention = (folder / table / "000.parquet" for table in ("answers", "attention"))
    output = listed(folder, tmp_path / "extraction.json")
    assert listed_shards(output, "answers") == [answers]
    assert listed_shards(output, "attention") == [attention]
    content = json.loads(output.read_text())
    assert content["made_by"]["model"] == "toy"
    assert content["tables"]["answers"] == {"toy/answers/000.parquet": read_seal(answers).seal}


def test_shards_beyond_the_number_are_left_alone(folder, tmp_path):
    shutil.copy(folder / "answers" / "000.parquet", folder / "answers" / "001.parquet")
    found = listed_shards(listed(folder, tmp_path / "extraction.json"), "answers")
    assert [path.name for path in found] == ["000.parquet"]


def test_a_missing_shard_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"001\.parquet: no such file"):
        listed(folder, tmp_path / "extraction.json", n_shards=2)
    assert not (tmp_path / "extraction.json").exists()


def test_equal_shards_made_again_give_an_equal_list(folder, tmp_path):
    first = listed(folder, tmp_path / "1.json")
    with_provenance(folder / "answers" / "000.parquet", folder / "answers" / "000.parquet")
    again = listed(folder, tmp_path / "2.json")
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
def test_shards_of_two_runs_are_refused(folder, tmp_path, changes, words):
    shards = [folder / "answers" / f"{i:03d}.parquet" for i in range(2)]
    with_provenance(shards[0], shards[1], **changes)
    output = tmp_path / "extraction.json"
    with pytest.raises(InputError, match=words):
        listed(folder, output, n_shards=2, tables=["answers"])
    assert not output.exists()


def test_other_items_are_refused(folder, tmp_path):
    items = tmp_path / "items.parquet"
    other = write_planted_study(tmp_path / "other", n_images=31)
    listed(folder, tmp_path / "extraction.json", items=[items, items])
    with pytest.raises(InputError, match=r"extraction_from: .* holds other items"):
        listed(folder, tmp_path / "extraction.json", items=[items, other.items])

"""A question that several splits have drawn is asked once."""

import polars as pl
import pytest

from vrp.tables.items import ITEMS, asked_as, asked_items, read_asked_items
from vrp.tables.parquet_files import write_table


def item(item_id, image="a", question="dog?", answers=("yes",), task="existence"):
    dataset, split, question_id = item_id.split("/")
    return {
        "item_id": item_id, "dataset": dataset, "split": split, "task": task, "group": image,
        "image": image, "image_sha256": image, "question_id": question_id, "question": question,
        "answers": list(answers), "reference": answers[0],
    }  # fmt: skip


ROWS = [
    item("pope/popular/1"),
    item("pope/popular/2", question="cat?", answers=("no",)),
    item("pope/random/1"),
    item("pope/random/2", image="b"),
    # Not the same: another task, another data set, other answers.
    item("vqa/open/1", task="open"),
    item("vqa/counting/1", task="counting"),
    item("vqa/open/2", task="open", answers=("yes", "no")),
]


@pytest.fixture
def path(tmp_path):
    columns = {name: [row[name] for row in ROWS] for name in ITEMS.columns.names}
    write_table(tmp_path / "items.parquet", ITEMS, columns, provenance={})
    return tmp_path / "items.parquet"


def test_a_shared_question_is_asked_under_its_first_id(path):
    asked = read_asked_items(path)
    assert asked.columns == ITEMS.columns.names
    assert set(asked["item_id"]) == {row["item_id"] for row in ROWS} - {"pope/random/1"}
    few = read_asked_items(path, ITEMS.only("group", "task"))
    assert few.columns == ["item_id", "task", "group"]
    assert few["item_id"].equals(asked["item_id"])


def test_every_item_is_found_under_the_id_that_was_asked():
    frame = pl.DataFrame(ROWS)
    pairs = dict(asked_as(frame).iter_rows())
    assert pairs.pop("pope/random/1") == "pope/popular/1"
    assert all(item_id == asked for item_id, asked in pairs.items())
    assert set(pairs) == set(asked_items(frame)["item_id"])

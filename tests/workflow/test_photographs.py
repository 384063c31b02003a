"""Photographs and POPE's own question files through the whole workflow, on an embedded model."""

import json
from pathlib import Path

import pytest
import yaml
from page_text import text_of
from real_data import REAL_DATA, needs_real_data
from study_copy import StudyCopy, in_one_shard, without_boxes

from vrp.tables.answers import ANSWERS
from vrp.tables.items import ITEMS, asked_items
from vrp.tables.parquet_files import read_table

ROOT = Path(__file__).parents[2]
SPLITS = ("adversarial", "popular", "random")

pytestmark = [pytest.mark.slow, pytest.mark.workflow, needs_real_data]


def photographs():
    """60 items of all three splits; everything else as small as the small study's."""
    study = yaml.safe_load((ROOT / "config" / "ci.yaml").read_text())
    study = without_boxes(in_one_shard(study))
    study["study"] = "photographs"
    study["data"] = {"origin": "local", "folder": str(REAL_DATA), "images": "pope/val2014"}
    study["sample"]["splits"] = [
        {"dataset": "pope", "split": split, "task": "existence", "count": 20} for split in SPLITS
    ]
    study["models"] = {"llava": study["models"]["llava"]}
    return study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results folder of a finished study."""
    copy = StudyCopy(tmp_path_factory.mktemp("photographs") / "copy", warm=True)
    config = copy.folder / "config" / "photographs.yaml"
    config.write_text(yaml.safe_dump(photographs()))
    ended = copy.run("--cores", "2", "--configfile", str(config), timeout=1800)
    assert ended.status == 0, ended.output[-5000:]
    return copy.folder / "results" / "photographs"


def test_every_item_is_answered(results):
    items = read_table(results / "items.parquet", ITEMS)
    counts = {split: items.filter(split=split).height for split in SPLITS}
    assert counts == dict.fromkeys(SPLITS, 20)
    answers = read_table(sorted(results.glob("llava/answers/*.parquet")), ANSWERS)
    assert set(answers["item_id"]) == set(asked_items(items)["item_id"])


def test_the_report_says_what_its_numbers_are_worth(results):
    words = text_of((results / "report.html").read_text(encoding="utf-8"))
    answers = read_table(sorted(results.glob("llava/answers/*.parquet")), ANSWERS)
    assert "llava learnt from rendered scenes" in words
    assert "accuracy near chance is expected" in words
    assert f"Accuracy here: llava {100 * answers['correct'].mean():.1f}%." in words
    assert "Data: local, 29 images in the folder" in words
    assert json.loads((results / "summary.json").read_text())["data"]["origin"] == "local"

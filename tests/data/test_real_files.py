"""The official files themselves, where there is a copy (see support/real_data.py)."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from real_data import REAL_DATA as DATA
from real_data import needs_real_data

from vrp.cli import main
from vrp.data.datasets.pope import POPE_SPLITS, read_pope
from vrp.data.datasets.vqa import read_vqa, read_vqa_rows
from vrp.data.images import ImageIndex, open_image
from vrp.data.item_sampling import sample_split
from vrp.data.question_files import reading_of
from vrp.data.scoring import vqa_accuracy
from vrp.errors import InputError
from vrp.tables.items import ITEMS, asked_items
from vrp.tables.parquet_files import read_table

pytestmark = needs_real_data


@pytest.fixture(scope="module")
def pope():
    images = ImageIndex(DATA, "pope/val2014")
    files = {split: DATA / "pope" / f"coco_pope_{split}.json" for split in POPE_SPLITS}
    return read_pope(files, images), images


def test_every_pope_split_is_whole_and_balanced(pope):
    readings, _ = pope
    assert set(readings) == set(POPE_SPLITS)
    for reading in readings.values():
        assert (reading.found, reading.dropped) == (174, {})
        assert Counter(q.reference for q in reading.questions) == {"yes": 87, "no": 87}
        assert len({question.image for question in reading.questions}) == 29


def test_pope_sample_of_all_splits(pope):
    readings, images = pope
    items = [
        item
        for reading in readings.values()
        for item in sample_split(reading, None, 0, inspect=images.inspect).items
    ]
    assert len({item.item_id for item in items}) == 3 * 174
    assert len({item.group for item in items}) == 29
    provenance = json.loads((DATA / "pope/provenance.json").read_text())
    for item in items:
        assert item.image_sha256 == provenance[Path(item.image).name]["sha256"]


COUNTS = {"adversarial": 174, "popular": 174, "random": 174}
"""All questions of each split."""
N_ASKED = 297
"""Different questions: `sort -u` on (image, text) of the three files."""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """`vrp sample` over all three splits: the items, the sampling report, the files' lines."""
    folder = tmp_path_factory.mktemp("sampled")
    splits = ", ".join(
        f"{{dataset: pope, split: {split}, task: existence, count: {count}}}"
        for split, count in COUNTS.items()
    )
    config = folder / "study.yaml"
    config.write_text(
        f"study: photographs\ndata: {{origin: local, folder: {DATA}, images: pope/val2014}}\n"
        f"sample: {{splits: [{splits}]}}\n"
        "models: {llava: {family: llava, checkpoint: 'zoo:llava'}}\n"
    )
    manifest, items, report = (
        folder / name for name in ("data.json", "items.parquet", "sampling.json")
    )
    main(["fetch-data", "--config", str(config), "--data", str(manifest)])
    main(["sample", "--config", str(config), "--data", str(manifest), "--items", str(items),
          "--sampling", str(report)])  # fmt: skip
    lines = {
        split: [
            json.loads(line)
            for line in (DATA / "pope" / f"coco_pope_{split}.json").read_text().splitlines()
        ]
        for split in COUNTS
    }
    return read_table(items, ITEMS), json.loads(report.read_text())["splits"], lines


def test_the_command_gives_the_files_counts(sampled):
    items, report, lines = sampled
    for row in report:
        of_split = lines[row["split"]]
        assert row["found"] == row["taken"] == row["usable"] == len(of_split)
        assert row["labels"] == {"yes": 87, "no": 87}
        assert row["dropped"] == {}
        assert row["missing"] == row["unreadable"] == []
        taken = items.filter(split=row["split"])
        assert {(Path(i).name, q) for i, q in taken.select("image", "question").iter_rows()} == {
            (line["image"], line["text"]) for line in of_split
        }
    assert [row["split"] for row in report] == list(COUNTS)
    assert items.height == sum(COUNTS.values())
    asked = asked_items(items)
    assert asked.height == asked.select("image", "question").n_unique() == N_ASKED


def test_the_command_gets_labels_and_groups_right(sampled):
    items, _, lines = sampled
    labels = {
        (line["image"], line["text"]): line["label"] for rows in lines.values() for line in rows
    }
    provenance = json.loads((DATA / "pope/provenance.json").read_text())
    for row in items.iter_rows(named=True):
        name = Path(row["image"]).name
        assert row["reference"] == labels[name, row["question"]]
        assert row["answers"] == [row["reference"]]
        assert row["group"] == row["image_sha256"] == provenance[name]["sha256"]
    assert items["group"].n_unique() == 29
    assert items["item_id"].n_unique() == items.height


def test_pope_exact_sample_and_shortage(pope):
    readings, images = pope
    sample = sample_split(readings["adversarial"], 58, 0, inspect=images.inspect)
    assert Counter(item.reference for item in sample.items) == {"yes": 29, "no": 29}
    assert set(Counter(item.image for item in sample.items).values()) == {2}
    with pytest.raises(InputError, match="pope adversarial: asked for 175 items, found 174"):
        sample_split(readings["adversarial"], 175, 0, inspect=images.inspect)


def test_photographs_decode(pope):
    _, images = pope
    for path in sorted((DATA / "pope/val2014").iterdir())[:3]:
        image = open_image(path)
        facts = images.inspect(path.relative_to(DATA).as_posix())
        assert image.mode == "RGB"
        assert 300 < max(image.size) <= 640
        assert facts == (hashlib.sha256(path.read_bytes()).hexdigest(), *image.size)


def test_vqa_v2_rows():
    images = ImageIndex(DATA, "vqa_v2")
    files = DATA / "vqa_v2/questions.json", DATA / "vqa_v2/annotations.json"
    with pytest.raises(InputError, match="has no 'answer_type'"):
        read_vqa(*files, images)
    rows = read_vqa_rows(*files)
    questions = reading_of(rows, images, dataset="vqa", split="open", task="open").questions
    assert [question.reference for question in questions] == ["net", "pitcher", "orange"]
    assert {question.image for question in questions} == {
        "vqa_v2/train2014/COCO_train2014_000000458752.jpg"
    }
    net, pitcher, orange = (question.answers for question in questions)
    # Annotators: 6 × net, netting, mesh, pitcher, orange. One "mesh": nine annotators see 1/3.
    assert vqa_accuracy("Net.", net) == 1.0
    assert vqa_accuracy("mesh", net) == pytest.approx(0.3, abs=1e-15)
    assert vqa_accuracy("a catcher", pitcher) == pytest.approx(0.3, abs=1e-15)
    assert vqa_accuracy("orange", orange) == 1.0
    assert vqa_accuracy("Orange", orange) == 0.0  # all ten agree: the official code compares raw
    assert vqa_accuracy("Orange", orange, rule="normalised") == 1.0

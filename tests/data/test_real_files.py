"""The official files themselves, where a copy lies beside the project."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from vrp.data.images import ImageIndex, open_image
from vrp.data.pope import POPE_SPLITS, read_pope
from vrp.data.sampling import sample_split
from vrp.data.scoring import vqa_accuracy
from vrp.data.vqa import read_vqa
from vrp.errors import InputError

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="no folder shared/data with official files beside the project"
)


@pytest.fixture(scope="module")
def pope():
    images = ImageIndex(DATA, "pope/val2014")
    files = {split: DATA / "pope" / f"coco_pope_{split}.json" for split in POPE_SPLITS}
    return read_pope(files, images), images


def test_pope_counts_labels_and_duplicates(pope):
    readings, _ = pope
    assert {split: reading.found for split, reading in readings.items()} == dict.fromkeys(
        POPE_SPLITS, 174
    )
    # Counted from the files with sort -u on (image, text): 297 pairs among 522 lines.
    assert sum(len(reading.questions) for reading in readings.values()) == 297
    adversarial = readings["adversarial"]
    assert Counter(question.reference for question in adversarial.questions) == {
        "yes": 87,
        "no": 87,
    }
    assert not adversarial.dropped
    assert len({question.image for question in adversarial.questions}) == 29


def test_pope_sample_of_all_splits(pope):
    readings, images = pope
    items = [
        item
        for reading in readings.values()
        for item in sample_split(reading, None, 0, inspect=images.inspect).items
    ]
    assert len({item.item_id for item in items}) == 297
    assert len({item.group for item in items}) == 29
    provenance = json.loads((DATA / "pope/provenance.json").read_text())
    for item in items:
        assert item.image_sha256 == provenance[Path(item.image).name]["sha256"]


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
    questions = read_vqa(*files, images, task="open")["open"].questions
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

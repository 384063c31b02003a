"""Annotation files in COCO's format, and which object a question asks for."""

import json

import pytest
from real_data import REAL_DATA, needs_real_data

from vrp.data.object_boxes import (
    INSTANCES_FILE,
    instances_path,
    object_asked_for,
    read_annotations,
)
from vrp.errors import InputError

CONTENT = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480},
               {"id": 8, "file_name": "b.jpg", "width": 50, "height": 60}],
    "categories": [{"id": 1, "name": "Dog"}, {"id": 90, "name": "hot dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40.5], "segmentation": [[1, 2]]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "category_id": 90, "bbox": [1, 1, 2, 2]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is there a dog in the image?", "dog"),
        ("Is there an Orange in the image", "orange"),
        ("Is there a hot dog in the imange?", "hot dog"),
        (" is there a dining table in the image? ", "dining table"),
        ("Is there a dog?", ""),
        ("How many dogs are there in the image?", ""),
        ("Is the dog in the image?", ""),
    ],
)
def test_the_object_that_a_question_asks_for(question, expected):
    assert object_asked_for(question) == expected


def test_boxes_are_corners_by_image_and_category(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(CONTENT))
    found = read_annotations(path)
    assert found.categories == {"dog", "hot dog"}
    assert found.images["a.jpg"].size == (640, 480)
    assert found.images["a.jpg"].boxes == {
        "dog": [(10, 20, 40, 60.5), (0, 0, 5, 5)],
        "hot dog": [(1, 1, 3, 3)],
    }
    assert found.images["b.jpg"].boxes == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("images"),
        lambda content: content["annotations"][0].update(category_id=5),
        lambda content: content["annotations"][0].update(bbox=[1, 2, 3]),
        lambda content: content["annotations"][0].update(bbox=[1, 2, float("nan"), 3]),
        lambda content: content["annotations"][0].update(bbox=[1, 2, -3, 3]),
        lambda content: content["annotations"].append("text"),
    ],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, spoil):
    path = tmp_path / "instances.json"
    content = json.loads(json.dumps(CONTENT))
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"instances\.json: is not an annotation file in COCO's format"
    ):
        read_annotations(path)


@pytest.mark.parametrize("text", ["", "[1]", "\x00", '{"images": '])
def test_any_other_file_is_refused(tmp_path, text):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(InputError, match="COCO's format"):
        read_annotations(path)


def test_a_missing_file_and_one_outside_the_data_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"boxes\.instances"):
        read_annotations(tmp_path / "instances.json")
    (tmp_path / "outside.json").write_text(json.dumps(CONTENT))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(InputError, match="leaves the data folder"):
        instances_path(str(tmp_path / "data"), "local", "in.json")


def test_drawn_scenes_have_a_file_of_their_own():
    assert instances_path("data", "scenes", None).as_posix() == f"data/{INSTANCES_FILE}"
    assert instances_path("data", "local", None) is None


@needs_real_data
def test_each_question_of_the_official_files_asks_for_an_object():
    for path in sorted((REAL_DATA / "pope").glob("coco_pope_*.json")):
        questions = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        assert len(questions) > 100
        assert all(map(object_asked_for, questions))

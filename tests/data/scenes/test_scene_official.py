"""The written data folder: official layouts, and labels worked out again from its scenes."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vrp.data.scenes.official as official
from vrp.data.scenes.draw import CATEGORIES, draw_scene, scene_seed
from vrp.data.scenes.official import write_scene_dataset
from vrp.errors import InputError

N_POPE, N_VQA = 40, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "data"
    write_scene_dataset(path, namespace="test", n_pope_images=N_POPE, n_vqa_images=N_VQA)
    return path


@pytest.fixture(scope="module")
def scenes(folder):
    """Image id → its scene, drawn once more."""
    ids = [int(path.stem.rpartition("_")[2]) for path in (folder / "val2014").iterdir()]
    return {image_id: draw_scene(scene_seed("test", image_id - 1)) for image_id in ids}


@pytest.fixture(scope="module")
def present(scenes):
    """File name → categories in the image."""
    return {
        f"COCO_val2014_{image_id:012d}.png": [o.category for o in scene.objects]
        for image_id, scene in scenes.items()
    }


def _pope(folder, split):
    text = (folder / f"pope/coco_pope_{split}.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _vqa(folder):
    questions = json.loads((folder / "vqa/v2_OpenEnded_mscoco_val2014_questions.json").read_text())
    annotations = json.loads((folder / "vqa/v2_mscoco_val2014_annotations.json").read_text())
    return questions, annotations


def _noun(row):
    return re.fullmatch(r"Is there an? (\w+) in the image\?", row["text"]).group(1)


def _digests(folder: Path):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_images_are_those_of_the_scenes(folder, scenes):
    assert len(scenes) == N_VQA
    for image_id, scene in scenes.items():
        with Image.open(folder / "val2014" / f"COCO_val2014_{image_id:012d}.png") as opened:
            assert np.array_equal(np.asarray(opened), np.asarray(scene.image))


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_pope_labels_agree_with_the_scenes(folder, present, split):
    rows = _pope(folder, split)
    assert len(rows) == 6 * N_POPE
    assert all(list(row) == ["question_id", "image", "text", "label"] for row in rows)
    assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
    by_image = defaultdict(list)
    for row in rows:
        assert row["label"] == ("yes" if _noun(row) in present[row["image"]] else "no")
        by_image[row["image"]].append(row)
    assert len(by_image) == N_POPE
    for asked in by_image.values():
        assert Counter(row["label"] for row in asked) == {"yes": 3, "no": 3}
        assert len({row["text"] for row in asked}) == 6


def test_popular_and_adversarial_negatives_by_brute_force(folder, present):
    rows = _pope(folder, "adversarial")
    sets = {name: set(present[name]) for name in {row["image"] for row in rows}}
    frequency = Counter(c for held in sets.values() for c in held)
    together = Counter()
    for held in sets.values():
        for a, b in combinations(sorted(held), 2):
            together[a, b] += 1
            together[b, a] += 1
    for split in ("popular", "adversarial"):
        used = defaultdict(set)
        for yes, no in zip(*[iter(_pope(folder, split))] * 2, strict=True):
            image = yes["image"]
            score = (
                frequency
                if split == "popular"
                else {c: together[_noun(yes), c] for c in CATEGORIES}
            )
            left = set(CATEGORIES) - sets[image] - used[image]
            assert score[_noun(no)] == max(score[c] for c in left)
            used[image].add(_noun(no))


def test_adversarial_negatives_belong_to_the_scene_more_often(folder, present):
    def mean_company(split):
        rows = [r for r in _pope(folder, split) if r["label"] == "no"]
        held = [set(present[name]) for name in {r["image"] for r in rows}]
        return np.mean(
            [sum(_noun(r) in h and bool(set(present[r["image"]]) & h) for h in held) for r in rows]
        )

    assert mean_company("adversarial") > 1.15 * mean_company("random")


def test_vqa_files_have_the_official_fields(folder, scenes):
    questions, annotations = _vqa(folder)
    header = {"info", "data_type", "data_subtype", "license"}
    assert set(questions) == header | {"task_type", "questions"}
    assert set(annotations) == header | {"annotations"}
    asked = {q["question_id"]: q for q in questions["questions"]}
    assert len(asked) == len(questions["questions"]) == len(annotations["annotations"])
    for a in annotations["annotations"]:
        q = asked[a["question_id"]]
        assert set(q) == {"image_id", "question", "question_id"}
        assert set(a) == {
            "question_type", "multiple_choice_answer", "answers", "image_id", "answer_type",
            "question_id",
        }  # fmt: skip
        assert a["image_id"] == q["image_id"]
        assert a["image_id"] in scenes
        assert a["answer_type"] in ("number", "yes/no", "other")
        assert [x["answer_id"] for x in a["answers"]] == list(range(1, 11))
        assert all(x["answer_confidence"] in ("yes", "maybe", "no") for x in a["answers"])


def test_vqa_majorities_agree_with_the_scenes(folder, scenes):
    """Counts, relations and colours from objects and masks; annotators may overturn a few."""
    held = defaultdict(list)
    for image_id, scene in scenes.items():
        for index, o in enumerate(scene.objects):
            y, x = np.nonzero(scene.instance_map == index)
            held[image_id].append((o.category, o.color, (x.mean(), y.mean())))
    questions, annotations = _vqa(folder)
    truths, disagreements = Counter(), 0
    for q, a in zip(questions["questions"], annotations["annotations"], strict=True):
        objects = held[q["image_id"]]
        disagreements += len({x["answer"] for x in a["answers"]}) > 1
        if a["question_type"] == "how many":
            noun = q["question"].split()[2]
            stem = noun if noun == "fish" else noun[:-1]
            truth = str(sum(name == stem for name, _, _ in objects))
        elif a["question_type"] == "is the":
            words = re.findall(r"\w+", q["question"])
            first, second = words[2], words[-1]
            (p,) = [place for name, _, place in objects if name == first]
            (r,) = [place for name, _, place in objects if name == second]
            holds = {
                "left": p[0] < r[0], "right": p[0] > r[0], "above": p[1] < r[1],
                "below": p[1] > r[1],
            }  # fmt: skip
            truth = "yes" if holds[next(w for w in words if w in holds)] else "no"
        elif a["question_type"] == "what color is the":
            noun = q["question"].split()[-1][:-1]
            (truth,) = [color for name, color, _ in objects if name == noun]
        else:
            continue
        truths[a["question_type"], a["multiple_choice_answer"] == truth] += 1
    for kind in ("how many", "is the", "what color is the"):
        right, wrong = truths[kind, True], truths[kind, False]
        assert right > 50
        assert wrong <= 0.03 * (right + wrong)
    share = disagreements / len(annotations["annotations"])
    assert 0.3 < share < 0.8


def test_counts_say_what_is_written(folder):
    about = json.loads((folder / "scenes.json").read_text())
    assert about["namespace"] == "test"
    assert about["made_by"].startswith("vrp ")
    assert (about["n_pope_images"], about["n_vqa_images"]) == (N_POPE, N_VQA)
    questions, _ = _vqa(folder)
    texts = [q["question"] for q in questions["questions"]]
    counting = sum(t.startswith("How many") for t in texts)
    spatial = sum(bool(re.search(r"left of|right of|above|below", t)) for t in texts)
    assert (about["n_counting"], about["n_spatial"]) == (counting, spatial)
    assert about["n_open"] == len(texts) - counting - spatial
    assert about["n_pope_rows"] == len(_pope(folder, "random"))


def test_vqa_shares_popes_images_as_far_as_they_go(folder, tmp_path):
    pope = {row["image"] for row in _pope(folder, "random")}
    vqa = {f"COCO_val2014_{q['image_id']:012d}.png" for q in _vqa(folder)[0]["questions"]}
    assert pope <= vqa
    write_scene_dataset(tmp_path / "d", namespace="ci", n_pope_images=9, n_vqa_images=4)
    about = json.loads((tmp_path / "d" / "scenes.json").read_text())
    assert (about["n_images"], about["n_pope_images"], about["n_vqa_images"]) == (9, 9, 4)


def test_yields_are_enough_for_the_study(folder):
    """Per image, with room: 1,000 counting and 1,000 spatial of 500 images, 90 open."""
    about = json.loads((folder / "scenes.json").read_text())
    assert about["n_counting"] / N_VQA > 1.8
    assert about["n_spatial"] / N_VQA > 2.0
    assert about["n_open"] / N_VQA > 1.0


def test_same_arguments_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    write_scene_dataset(again, namespace="test", n_pope_images=N_POPE, n_vqa_images=N_VQA)
    assert _digests(again) == _digests(folder)


def test_an_earlier_data_set_is_replaced_and_empty_folders_are_taken(tmp_path):
    target = tmp_path / "data"
    (target / "val2014").mkdir(parents=True)
    write_scene_dataset(target, namespace="ci", n_pope_images=5, n_vqa_images=5)
    write_scene_dataset(target, namespace="ci", n_pope_images=4, n_vqa_images=4)
    assert len(list((target / "val2014").iterdir())) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "name", ["questions.jsonl", "val2014/mine.png", "pope/coco_pope_mine.json"]
)
def test_files_that_were_put_beside_the_scenes_are_not_deleted(tmp_path, name):
    target = tmp_path / "data"
    write_scene_dataset(target, namespace="ci", n_pope_images=5, n_vqa_images=5)
    (target / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name}: is none of the scenes' files"):
        write_scene_dataset(target, namespace="ci", n_pope_images=5, n_vqa_images=5)
    assert (target / name).read_text() == "mine"


def test_other_peoples_files_are_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    precious = tmp_path / "data" / "thesis.txt"
    precious.write_text("mine")
    with pytest.raises(InputError, match="not a scene data set"):
        write_scene_dataset(tmp_path / "data", namespace="ci", n_pope_images=1, n_vqa_images=1)
    assert precious.read_text() == "mine"


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    drawn = []

    def stops(seed):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(seed)
        return draw_scene(seed)

    monkeypatch.setattr(official, "draw_scene", stops)
    with pytest.raises(KeyboardInterrupt):
        write_scene_dataset(tmp_path / "data", namespace="ci", n_pope_images=9, n_vqa_images=9)
    assert list(tmp_path.iterdir()) == []


def test_a_count_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_scene_dataset(tmp_path / "d", namespace="ci", n_pope_images=0, n_vqa_images=4)

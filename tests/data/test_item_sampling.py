"""Exactness, strata, spread over images and independence of order of the sampling."""

import itertools
import json
import random
import tracemalloc
from collections import Counter

import pytest

from vrp.data import item_sampling
from vrp.data.datasets.vqa import read_vqa
from vrp.data.images import ImageFacts, ImageIndex
from vrp.data.item import Question, Reading
from vrp.data.item_sampling import drop_unreachable, rank, sample_split, unite_groups
from vrp.data.scoring import vqa_accuracy
from vrp.errors import InputError


def _inspect(image):
    return ImageFacts(f"digest of {image}", 4, 4)


def _question(i, image, reference, task="existence", dataset="pope", group=None):
    return Question(
        dataset, "s", task, str(i), f"{image}.jpg", f"q{i}?", [reference], reference, group
    )


def _reading(questions, dropped=None):
    found = len(questions) + sum((dropped or {}).values())
    return Reading("pope", "s", found, tuple(questions), dropped or {})


def _pope_like(n_images=50, per_image=6):
    return [
        _question(f"{image}-{k}", image, "yes" if k % 2 else "no")
        for image in range(n_images)
        for k in range(per_image)
    ]


def test_counts_are_exact_labels_balanced_and_images_used_evenly():
    sample = sample_split(_reading(_pope_like()), 100, 7, inspect=_inspect)
    assert len(sample.items) == len({item.item_id for item in sample.items}) == 100
    assert Counter(item.reference for item in sample.items) == {"yes": 50, "no": 50}
    # 100 items over 50 images: two each, with no exception.
    assert set(Counter(item.image for item in sample.items).values()) == {2}
    report = sample.report
    assert (report.found, report.usable, report.dropped, report.taken) == (300, 300, {}, 100)


def test_three_pope_splits_of_3000_are_met_and_balanced():
    """Sizes of the official files: 500 images, one list of yes-questions for all three splits."""
    for split in ("random", "popular", "adversarial"):
        questions = [
            Question("pope", split, "existence", f"{image}-{k}", f"{image}.jpg",
                     f"{split if k % 2 else ''} {k}?", [label], label)
            for image in range(500)
            for k in range(6)
            for label in ["no" if k % 2 else "yes"]
        ]  # fmt: skip
        reading = Reading("pope", split, 3000, tuple(questions))
        sample = sample_split(reading, 3000, 7, inspect=_inspect)
        assert len({item.item_id for item in sample.items}) == 3000
        assert sample.report.labels == {"yes": 1500, "no": 1500}


def test_only_yes_and_no_are_counted_as_labels():
    counting = [_question(i, i, str(i % 3), "counting", "vqa") for i in range(9)]
    assert sample_split(_reading(counting), 9, 0, inspect=_inspect).report.labels == {}
    yes = [_question(i, i, "yes") for i in range(3)]
    assert sample_split(_reading(yes), 3, 0, inspect=_inspect).report.labels == {"yes": 3, "no": 0}


ONCE_EACH = [str(i) for i in range(10)]
TWICE = ["a red cat", "red cat.", *ONCE_EACH[2:]]  # the same once they are normalised


@pytest.mark.parametrize(
    ("answers", "rule", "threshold", "reachable"),
    [
        # One match of ten gives 0.3, two give 0.6.
        (ONCE_EACH, "normalised", 0.5, False),
        (TWICE, "normalised", 0.5, True),
        (TWICE, "normalised", 0.65, False),
        (ONCE_EACH, "official", 0.3, True),
        (["red"] * 10, "official", 1.0, True),
        (["red"], "normalised", 1.0, True),
        (["red"], "official", 0.5, False),
        (["red", "blue", "green"], "normalised", 0.5, False),
    ],
)
def test_questions_that_no_answer_gets_right_are_left_out_and_counted(
    answers, rule, threshold, reachable
):
    odd = Question("vqa", "s", "open", "odd", "o.jpg", "q?", answers, answers[0])
    reading = _reading([odd, _question(1, 1, "yes")], {"image not found": 2})
    kept = drop_unreachable(reading, rule=rule, threshold=threshold)
    assert len(kept.questions) == 1 + reachable
    assert kept.dropped == {"image not found": 2} | (
        {} if reachable else {"no answer could be right": 1}
    )
    best = max(vqa_accuracy(answer, answers, rule=rule) for answer in answers)
    assert reachable == (best >= threshold)


def test_unbalanced_labels_give_what_there_is():
    questions = [_question(i, i, "yes" if i < 10 else "no") for i in range(100)]
    sample = sample_split(_reading(questions), 60, 0, inspect=_inspect)
    assert Counter(item.reference for item in sample.items) == {"yes": 10, "no": 50}


def test_vqa_answers_are_taken_in_proportion():
    answers = ["1"] * 400 + ["2"] * 250 + ["3"] * 150 + [f"rare {i}" for i in range(200)]
    questions = [_question(i, i % 300, a, "counting", "vqa") for i, a in enumerate(answers)]
    sample = sample_split(_reading(questions), 100, 3, inspect=_inspect)
    drawn = Counter(item.reference for item in sample.items)
    assert (drawn["1"], drawn["2"], drawn["3"]) == (40, 25, 15)
    assert sum(count for answer, count in drawn.items() if answer.startswith("rare")) == 20
    assert max(Counter(item.image for item in sample.items).values()) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 7, 99, 299, 300])
def test_any_count_is_met(count):
    for questions in (
        _pope_like(),
        [_question(i, i % 9, str(i % 11), "open", "vqa") for i in range(300)],
    ):
        sample = sample_split(_reading(questions), count, 1, inspect=_inspect)
        assert len({item.item_id for item in sample.items}) == count


def test_the_order_of_the_file_does_not_matter():
    questions = _pope_like() + [
        _question(f"v{i}", i % 40, str(i % 13), "open", "vqa") for i in range(200)
    ]
    expected = sample_split(_reading(questions), 123, 5, inspect=_inspect)
    for shuffle in range(3):
        random.Random(shuffle).shuffle(questions)
        assert sample_split(_reading(questions), 123, 5, inspect=_inspect) == expected


def test_another_seed_takes_other_items_and_each_as_likely():
    questions = _pope_like(n_images=20, per_image=2)
    taken = Counter(
        item.item_id
        for seed in range(300)
        for item in sample_split(_reading(questions), 10, seed, inspect=_inspect).items
    )
    # 300 draws of 10 among 40: 75 each, standard deviation 7.5; five of them either way.
    assert len(taken) == 40
    assert all(75 - 38 < count < 75 + 38 for count in taken.values())


def test_items_of_an_image_stand_together_and_carry_its_digest():
    items = sample_split(_reading(_pope_like()), 150, 2, inspect=_inspect).items
    images = [item.image for item in items]
    changes = sum(a != b for a, b in itertools.pairwise(images))
    assert changes == len(set(images)) - 1
    assert all(item.group == item.image_sha256 == f"digest of {item.image}" for item in items)


def test_shortage_names_split_asked_found_and_reasons():
    reading = _reading(_pope_like(2), dropped={"image not found": 3})
    with pytest.raises(
        InputError,
        match=r"pope s: asked for 13 items, found 15, usable 12 \(dropped: 3 image not found\)",
    ):
        sample_split(reading, 13, 0, inspect=_inspect)


def test_unreadable_images_are_replaced_reported_and_counted():
    def inspect(image):
        if image in ("3.jpg", "4.jpg"):
            raise InputError(f"{image}: the image file is empty")
        return _inspect(image)

    reading = _reading(_pope_like(10))
    sample = sample_split(reading, 48, 0, inspect=inspect)
    assert len(sample.items) == 48
    assert not {"3.jpg", "4.jpg"} & {item.image for item in sample.items}
    assert sample.report.usable == 48
    assert sample.report.dropped == {"unreadable image": 12}
    assert len(sample.report.unreadable) == 2
    with pytest.raises(InputError, match=r"asked for 49 .*usable 48 .*12 unreadable image"):
        sample_split(reading, 49, 0, inspect=inspect)
    assert len(sample_split(reading, None, 0, inspect=inspect).items) == 48


def test_unreadable_images_of_one_label_are_made_up_from_the_other():
    questions = [_question(i, i, "yes" if i < 20 else "no") for i in range(60)]

    def inspect(image):
        if int(image.removesuffix(".jpg")) < 15:
            raise InputError(f"{image}: empty")
        return _inspect(image)

    sample = sample_split(_reading(questions), 40, 0, inspect=inspect)
    assert Counter(item.reference for item in sample.items) == {"yes": 5, "no": 35}


def test_only_images_that_are_taken_are_opened():
    opened = []

    def inspect(image):
        opened.append(image)
        return _inspect(image)

    sample_split(_reading(_pope_like(500)), 20, 0, inspect=inspect)
    assert len(set(opened)) == 20


def test_negative_count_is_refused():
    with pytest.raises(InputError, match="below 0"):
        sample_split(_reading(_pope_like(1)), -1, 0, inspect=_inspect)


def test_rank_is_sha256_of_seed_and_name():
    # printf '7\0pope/s/1' | sha256sum
    assert rank(7, "pope/s/1").hex()[:16] == "fe3189dc85fdfae6"


def test_groups_are_united_through_images_and_names():
    questions = [
        _question(1, "a", "x", "open", "own", group="g"),
        _question(2, "b", "x", "open", "own", group="g"),
        _question(3, "b", "x", "open", "vqa"),
        _question(4, "c", "x", "open", "vqa"),
    ]
    items = sorted(
        sample_split(_reading(questions), 4, 0, inspect=_inspect).items,
        key=lambda item: item.question_id,
    )
    united = unite_groups(items)
    assert [item.group for item in united] == ["digest of a.jpg"] * 3 + ["digest of c.jpg"]
    assert [item.item_id for item in united] == [item.item_id for item in items]


@pytest.mark.parametrize("n_answers", [1, 97])
def test_many_questions_cost_one_hash_each(monkeypatch, n_answers):
    """Not timed (see benchmarks/sampling.py): the work must grow with the file, not faster."""
    ranked = Counter()

    def counted(seed, name):
        ranked[name] += 1
        return rank(seed, name)

    monkeypatch.setattr(item_sampling, "rank", counted)
    questions = [_question(i, i % 2_000, str(i % n_answers), "open", "vqa") for i in range(10_000)]
    items = sample_split(_reading(questions), 500, 0, inspect=_inspect).items
    assert len(items) == 500
    assert max(Counter(item.image for item in items).values()) == 1
    # Each question once; what is taken again, with its image, to be put in order; each stratum.
    assert sum(ranked.values()) <= 10_000 + 2 * 500 + n_answers


def _vqa_files(folder, n_rows):
    """Questions and annotations in the official layout, ten answers each."""
    asked = [
        {"image_id": i % 100, "question": f"What color is thing {i}?", "question_id": i}
        for i in range(n_rows)
    ]
    annotated = [
        {
            "question_type": "what color is the", "multiple_choice_answer": "red",
            "answers": [
                {"answer": f"red {i % 50}", "answer_confidence": "yes", "answer_id": n}
                for n in range(1, 11)
            ],
            "image_id": i % 100, "answer_type": "other", "question_id": i,
        }
        for i in range(n_rows)
    ]  # fmt: skip
    files = folder / "questions.json", folder / "annotations.json"
    files[0].write_text(json.dumps({"questions": asked}))
    files[1].write_text(json.dumps({"annotations": annotated}))
    return files


def test_a_row_costs_few_kilobytes_and_an_image_one_search(tmp_path, monkeypatch):
    """So that 100,000 rows stay far below a gigabyte, whatever machine reads them."""
    for i in range(100):
        (tmp_path / f"COCO_val2014_{i:012d}.jpg").touch()
    n_rows = 1_000
    files = _vqa_files(tmp_path, n_rows)
    searched = Counter()
    search = ImageIndex._find_id

    def counted(index, image_id):
        searched[image_id] += 1
        return search(index, image_id)

    monkeypatch.setattr(ImageIndex, "_find_id", counted)
    images = ImageIndex(tmp_path)
    tracemalloc.start()
    try:
        reading = read_vqa(*files, images)["open"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(reading.questions) == n_rows
    assert set(searched.values()) == {1}
    # It would be 4,900 if each of the answers stayed an object of three keys.
    assert peak / n_rows < 3_000

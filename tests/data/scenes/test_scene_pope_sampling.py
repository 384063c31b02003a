"""POPE's procedure against a data set small enough to work out by hand."""

from collections import Counter

import pytest

from vrp.data.scenes.pope_sampling import (
    ImageObjects,
    co_occurrences,
    object_frequencies,
    pope_questions,
)

# Categories a…i. Frequencies: a 4; b, c, d 3; e, f 2; g, h, i 1.
IMAGES = [
    ImageObjects("1.png", ("a", "b", "c"), 1),
    ImageObjects("2.png", ("a", "b", "d"), 2),
    ImageObjects("3.png", ("a", "d", "e", "b"), 3),
    ImageObjects("4.png", ("c", "f", "g"), 4),
    ImageObjects("5.png", ("c", "f", "h"), 5),
    ImageObjects("6.png", ("a", "d", "e", "i"), 6),
]


def _asked(split, image):
    """(category, label) of each question about one image."""
    rows = [q for q in pope_questions(IMAGES, split) if q.image == image]
    return [(q.text.removesuffix(" in the image?").split()[-1], q.label) for q in rows]


def test_frequencies_and_co_occurrences_by_hand():
    assert object_frequencies(IMAGES) == {
        "a": 4,
        "b": 3,
        "c": 3,
        "d": 3,
        "e": 2,
        "f": 2,
        "g": 1,
        "h": 1,
        "i": 1,
    }
    beside = co_occurrences(IMAGES)
    assert beside["a"] == {"b": 3, "d": 3, "e": 2, "c": 1, "i": 1}
    assert list(beside["a"]) == ["b", "d", "e", "c", "i"]
    assert beside["f"] == {"c": 2, "g": 1, "h": 1}
    assert beside["i"] == {"a": 1, "d": 1, "e": 1}


def test_popular_negatives_are_the_most_frequent_absent_ones():
    # Image 4 holds c, f, g: of the rest a (4), then b and d (3 each).
    assert _asked("popular", "4.png") == [
        ("c", "yes"), ("a", "no"), ("f", "yes"), ("b", "no"), ("g", "yes"), ("d", "no"),
    ]  # fmt: skip


def test_adversarial_negatives_co_occur_with_the_object_just_asked_about():
    # Image 1 holds a, b, c. Beside a: d 3. Beside b: a, d out, e 1. Beside c: f 2.
    assert _asked("adversarial", "1.png") == [
        ("a", "yes"), ("d", "no"), ("b", "yes"), ("e", "no"), ("c", "yes"), ("f", "no"),
    ]  # fmt: skip
    # Image 6: beside a: b; beside d: a, b, e out, nothing is left: any absent one; e likewise.
    asked = _asked("adversarial", "6.png")
    assert asked[:2] == [("a", "yes"), ("b", "no")]
    assert {name for name, label in asked if label == "no"} <= set("bcfgh")


def test_only_the_first_three_objects_are_asked_about():
    assert [n for n, label in _asked("random", "3.png") if label == "yes"] == ["a", "d", "e"]


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_every_label_is_true_and_half_are_yes(split):
    rows = pope_questions(IMAGES, split)
    assert [q.question_id for q in rows] == list(range(1, 37))
    for image in IMAGES:
        asked = _asked(split, image.image)
        assert Counter(label for _, label in asked) == {"yes": 3, "no": 3}
        assert len({name for name, _ in asked}) == 6
        assert all((name in image.objects) == (label == "yes") for name, label in asked)


def test_random_negatives_reach_every_absent_object():
    seen = Counter()
    for seed in range(400):
        images = [IMAGES[0]._replace(seed=seed), *IMAGES[1:]]
        rows = pope_questions(images, "random")[:6]
        seen.update(q.text[-len("x in the image?")] for q in rows if q.label == "no")
    assert set(seen) == set("defghi")
    # 1,200 draws without replacement, 3 of 6: 200 each, standard deviation 10.
    assert all(abs(n - 200) < 45 for n in seen.values())


def test_the_order_of_images_changes_no_choice():
    for split in ("random", "popular", "adversarial"):
        forwards = {(q.image, q.text, q.label) for q in pope_questions(IMAGES, split)}
        backwards = {(q.image, q.text, q.label) for q in pope_questions(IMAGES[::-1], split)}
        assert forwards == backwards


def test_too_few_objects_and_unknown_splits_are_refused():
    with pytest.raises(ValueError, match=r"7\.png"):
        pope_questions([*IMAGES, ImageObjects("7.png", ("a", "b"), 7)], "random")
    with pytest.raises(ValueError, match="adversarial"):
        pope_questions(IMAGES, "hard")

"""Questions about scenes: every answer worked out again from the instance map."""

import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vrp.data.scenes.draw import (
    CATEGORIES,
    COLORS,
    SCENE_TYPES,
    Purpose,
    Scene,
    SceneObject,
    draw_scene,
    scene_rng,
    scene_seed,
)
from vrp.data.scenes.questions import (
    ANSWERS,
    counting_questions,
    existence_question,
    open_questions,
    plural,
    spatial_questions,
)

RELATION = re.compile(r"Is the (\w+) (to the left of|to the right of|above|below) the (\w+)\?")
WHICH = re.compile(r"What is (to the left of|to the right of|above|below) the (\w+)\?")
SINGULAR = {"fish": "fish"} | {c + "s": c for c in CATEGORIES if c != "fish"}


@pytest.fixture(scope="module")
def asked():
    """(scene, its counting, spatial and open questions) for many scenes."""
    rows = []
    for index in range(200):
        scene = draw_scene(scene_seed("test-questions", index))
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        groups = [ask(scene, rng) for ask in (counting_questions, spatial_questions)]
        rows.append((scene, *groups, open_questions(scene, rng)))
    return rows


def _centre(scene, category):
    """(x, y) of the only object of a category, from scipy."""
    (index,) = [i for i, o in enumerate(scene.objects) if o.category == category]
    y, x = ndimage.center_of_mass(scene.instance_map == index)
    return x, y


def _holds(relation, a, b):
    return {
        "to the left of": a[0] < b[0],
        "to the right of": a[0] > b[0],
        "above": a[1] < b[1],
        "below": a[1] > b[1],
    }[relation]


def _handmade_scene(*placed):
    """A scene of 10×10 blocks: (category, colour, x, y) of each upper left corner."""
    instance_map = np.full((96, 96), -1, np.int16)
    objects = []
    for index, (category, color, x, y) in enumerate(placed):
        instance_map[y : y + 10, x : x + 10] = index
        objects.append(SceneObject(category, color, (x, y, x + 10, y + 10), 1.0, 10, 1.0))
    image = Image.new("RGB", (96, 96))
    return Scene(image, tuple(objects), "kitchen", 3, instance_map)


def test_existence_questions_have_popes_wording():
    assert existence_question("car") == "Is there a car in the image?"
    assert existence_question("umbrella") == "Is there an umbrella in the image?"


def test_plurals():
    assert plural("fish") == "fish"
    assert plural("umbrella") == "umbrellas"
    assert sorted(plural(c) for c in CATEGORIES) == sorted(SINGULAR)


def test_a_handmade_scene_has_the_answers_that_one_sees():
    scene = _handmade_scene(
        ("cup", "red", 2, 40), ("cup", "red", 40, 40), ("ball", "blue", 75, 5), ("key", "x", 75, 70)
    )
    counts, relations, colors, which = {}, {}, {}, {}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        counts |= {q.nouns[0]: q.answer for q in counting_questions(scene, rng)}
        for q in spatial_questions(scene, rng):
            (relations if q.answer_type == "yes/no" else which)[q.text] = q.answer
        colors |= {q.nouns: q.answer for q in open_questions(scene, rng)}
    assert counts["cup"] == "2"
    assert counts["ball"] == "1"
    assert counts["bottle"] == "0"
    # Cups occur twice and ball and key are in one column: above and below is all there is.
    assert relations == {
        "Is the ball above the key?": "yes",
        "Is the ball below the key?": "no",
        "Is the key below the ball?": "yes",
        "Is the key above the ball?": "no",
    }
    assert which == {}
    assert colors[("cup",)] == "red"
    assert colors[("ball",)] == "blue"
    assert colors[()] == "kitchen"


def test_which_object_is_asked_only_where_one_is_the_answer():
    scene = _handmade_scene(
        ("cup", "red", 2, 40), ("ball", "blue", 60, 44), ("book", "red", 80, 40)
    )
    found = {}
    for seed in range(60):
        questions = spatial_questions(scene, np.random.default_rng(seed))
        found |= {q.text: q.answer for q in questions if q.answer_type == "other"}
    assert found == {
        "What is to the left of the ball?": "cup",
        "What is to the right of the ball?": "book",
    }


def test_counts_are_those_of_the_instance_map(asked):
    for scene, counting, _, _ in asked:
        seen = [scene.objects[i].category for i in np.unique(scene.instance_map) if i >= 0]
        for q in counting:
            noun = SINGULAR[re.match(r"How many (\w+) ", q.text).group(1)]
            assert q.nouns == (noun,)
            assert q.answer == str(seen.count(noun))
            assert (q.task, q.answer_type) == ("counting", "number")
            assert q.text.lower().startswith(q.question_type)


def test_counts_are_spread(asked):
    answers = Counter(q.answer for _, counting, _, _ in asked for q in counting)
    total = answers.total()
    assert 0.06 < answers["0"] / total < 0.15
    assert answers["1"] / total < 0.55
    assert all(answers[n] >= 8 for n in ("1", "2", "3", "4"))


def test_relations_are_those_of_the_centroids(asked):
    near = 0
    for scene, _, spatial, _ in asked:
        for q in spatial:
            match = RELATION.fullmatch(q.text)
            if match is None:
                continue
            a, relation, b = match.groups()
            assert q.nouns == (a, b)
            place_a, place_b = _centre(scene, a), _centre(scene, b)
            assert q.answer == ("yes" if _holds(relation, place_a, place_b) else "no")
            axis = 0 if "to the" in relation else 1
            gap = abs(place_a[axis] - place_b[axis])
            assert gap >= 10
            near += gap < 18
            assert (q.task, q.question_type, q.answer_type) == ("spatial", "is the", "yes/no")
    assert near > 20


def test_which_questions_have_exactly_one_answer(asked):
    n_which = 0
    for scene, _, spatial, _ in asked:
        for q in spatial:
            match = WHICH.fullmatch(q.text)
            if match is None:
                assert RELATION.fullmatch(q.text), q.text
                continue
            n_which += 1
            relation, noun = match.groups()
            place = _centre(scene, noun)
            others = [
                (o.category, ndimage.center_of_mass(scene.instance_map == i)[::-1])
                for i, o in enumerate(scene.objects)
                if o.category != noun
            ]
            assert [c for c, there in others if _holds(relation, there, place)] == [q.answer]
    n_spatial = sum(len(spatial) for _, _, spatial, _ in asked)
    assert 0.03 < n_which / n_spatial <= 0.20


def test_yes_and_no_are_balanced(asked):
    answers = Counter(
        q.answer for _, _, spatial, _ in asked for q in spatial if q.answer_type == "yes/no"
    )
    assert answers.total() > 400
    assert 0.45 < answers["yes"] / answers.total() < 0.55


def test_colours_and_places(asked):
    places = 0
    for scene, _, _, open_ended in asked:
        for q in open_ended:
            if not q.nouns:
                places += 1
                assert q.answer == scene.scene_type
                continue
            colors = [o.color for o in scene.objects if o.category == q.nouns[0]]
            assert set(colors) == {q.answer}
            noun = q.nouns[0] if len(colors) == 1 else plural(q.nouns[0])
            assert q.text == f"What color {'is' if len(colors) == 1 else 'are'} the {noun}?"
    assert 0 < places < 0.15 * sum(len(o) for *_, o in asked)


def test_every_answer_is_in_the_vocabulary(asked):
    questions = [q for _, *groups in asked for group in groups for q in group]
    assert {q.answer for q in questions} <= ANSWERS
    assert set(COLORS) | set(SCENE_TYPES) | {"yes", "no"} <= {q.answer for q in questions}


def test_no_question_is_asked_twice_of_a_scene(asked):
    for _, *groups in asked:
        texts = [q.text for group in groups for q in group]
        assert len(texts) == len(set(texts))


def test_questions_depend_on_the_scene_alone(asked):
    scene, counting, spatial, open_ended = asked[5]
    rng = scene_rng(scene.seed, Purpose.QUESTIONS)
    again = draw_scene(scene.seed)
    assert counting_questions(again, rng) == counting
    assert spatial_questions(again, rng) == spatial
    assert open_questions(again, rng) == open_ended

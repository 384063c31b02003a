"""Simulated annotators: planted error rates, plausible mistakes."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vrp.data.scenes.annotators import annotate, error_probability
from vrp.data.scenes.draw import CATEGORIES, SCENE_TYPES, Scene, SceneObject
from vrp.data.scenes.icons import COLORS
from vrp.data.scenes.questions import ANSWERS, SceneQuestion

PLAIN = SceneObject("cup", "red", (0, 0, 30, 30), 1.0, 30, 1.0)
COUNT = SceneQuestion("How many cups are there?", "2", "counting", "how many", "number", ("cup",))


def _scene(*objects):
    return Scene(Image.new("RGB", (96, 96)), objects, "kitchen", 1, np.zeros((96, 96), np.int16))


def _question(answer, answer_type, task="open"):
    return SceneQuestion("?", answer, task, "what", answer_type, ("cup",))


def test_hard_objects_raise_the_chance_of_an_error():
    hidden, faint = PLAIN._replace(visible_share=0.5), PLAIN._replace(contrast=0.5)
    assert error_probability(COUNT, _scene(PLAIN)) == pytest.approx(0.04)
    assert error_probability(COUNT, _scene(PLAIN, hidden)) == pytest.approx(0.10)
    assert error_probability(COUNT, _scene(PLAIN, faint)) == pytest.approx(0.16)
    small = faint._replace(size=14, visible_share=0.5)
    assert error_probability(COUNT, _scene(small)) == pytest.approx(0.28)
    # Objects that the question is not about do not matter.
    assert error_probability(COUNT, _scene(PLAIN, small._replace(category="ball"))) == 0.04


def test_annotators_err_as_often_as_planned():
    """20,000 answers at 16%: standard error 0.26 points."""
    scene = _scene(PLAIN._replace(contrast=0.5))
    rng = np.random.default_rng(0)
    question = _question("red", "other")
    answers = [a for _ in range(2000) for a in annotate(question, scene, rng)]
    wrong = np.mean([a.answer != "red" for a in answers])
    assert wrong == pytest.approx(0.16, abs=0.012)
    sure = Counter((a.answer == "red", a.answer_confidence == "yes") for a in answers)
    right_sure = sure[True, True] / (sure[True, True] + sure[True, False])
    wrong_sure = sure[False, True] / (sure[False, True] + sure[False, False])
    assert right_sure == pytest.approx(0.84, abs=0.02)
    assert wrong_sure == pytest.approx(0.50, abs=0.04)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("yes", "yes/no"), ("no", "yes/no")]
    + [(str(n), "number") for n in range(7)]
    + [(name, "other") for name in (*COLORS, *CATEGORIES, *SCENE_TYPES)],
)
def test_every_mistake_is_another_answer_of_the_same_kind(answer, kind):
    scene = _scene(PLAIN._replace(contrast=0.5, size=14))
    rng = np.random.default_rng(1)
    rows = [annotate(_question(answer, kind), scene, rng) for _ in range(40)]
    assert all([a.answer_id for a in row] == list(range(1, 11)) for row in rows)
    assert {a.answer_confidence for row in rows for a in row} == {"yes", "maybe", "no"}
    given = {a.answer for row in rows for a in row}
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    if kind == "number":
        values = {words.index(g) if g in words else int(g) for g in given}
        assert values <= {int(answer) - 1, int(answer), int(answer) + 1} - {-1}
        assert given & set(words)
    else:
        family = next(f for f in ({"yes", "no"}, COLORS, CATEGORIES, SCENE_TYPES) if answer in f)
        assert given <= set(family)
        assert given <= ANSWERS
    assert len(given) > 1

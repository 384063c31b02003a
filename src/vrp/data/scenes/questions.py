"""Questions about a scene in POPE's and VQA v2's wording, with their true answers."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from vrp.data.scenes.draw import CATEGORIES, SCENE_TYPES, Scene
from vrp.data.scenes.icons import COLORS

CLEAR_SEPARATION: Final = 18.0
"""Pixels between centres, along a relation's axis, from which the relation is plain."""

NEAR_SEPARATION: Final = 10.0
"""Pixels between centres under which no relation is asked for."""

RELATIONS: Final[dict[str, tuple[int, int]]] = {
    "to the left of": (0, -1),
    "to the right of": (0, 1),
    "above": (1, -1),
    "below": (1, 1),
}
"""Relation → (axis, sign): axis 0 is x, 1 is y (down); `a R b` holds when sign·(a − b) > 0."""

_NAMES: Final = {place: words for words, place in RELATIONS.items()}

MAX_COUNT: Final = 6
ANSWERS: Final[frozenset[str]] = frozenset(
    ["yes", "no", *map(str, range(MAX_COUNT + 1)), *COLORS, *CATEGORIES, *SCENE_TYPES]
)
"""Every true answer that a scene's questions can have."""

_PLURALS: Final = {"fish": "fish"}
_COUNT_WORDINGS: Final = (
    "How many {plural} are in the image?",
    "How many {plural} are there?",
    "How many {plural} can you see?",
)
_COUNT_SHARES: Final = (0.6, 0.25, 0.15)
_PLACE_WORDINGS: Final = ("Where is this?", "What place is this?")
_ZERO_SHARE: Final = 0.22
"""Chance that a scene gets a question about an absent category: a tenth of the questions."""
_KEEP_ONE_SHARE: Final = 0.4
"""Share of the questions with the answer 1 that are kept, so that 1 is not always right."""
_HARD_KEEP_SHARE: Final = 0.5
_PLACE_SHARE: Final = 0.2
_OBJECT_ANSWER_SHARE: Final = 0.5
_SWAPPED_AXIS_SHARE: Final = 0.15
_MAX_RELATIONS: Final = 6
"""Yes/no relation questions about one scene, so that crowded scenes do not dominate."""


class SceneQuestion(NamedTuple):
    """One question about one scene."""

    text: str
    """The question as it is put to a model."""
    answer: str
    """The true answer, one of `ANSWERS`."""
    task: str
    """One of "existence", "counting", "spatial" or "open"."""
    question_type: str
    """VQA v2's question type: the first words of the question."""
    answer_type: str
    """VQA v2's answer type: "number", "yes/no" or "other"."""
    nouns: tuple[str, ...]
    """The categories named in the text, in the order of the text."""


def plural(category: str) -> str:
    """Return the plural noun of a category."""
    return _PLURALS.get(category, f"{category}s")


def existence_question(category: str) -> str:
    """Return POPE's question for a category: "Is there a car in the image?"."""
    article = "an" if category[0] in "aeiou" else "a"
    return f"Is there {article} {category} in the image?"


def counting_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Ask how many objects of a category there are.

    One question for each category that occurs several times and for some of those that occur
    once; sometimes one for a category that is absent but typical of the scene (answer "0").
    """
    counts = Counter(o.category for o in scene.objects)
    asked = [(c, n) for c, n in counts.items() if n > 1 or rng.random() < _KEEP_ONE_SHARE]
    if rng.random() < _ZERO_SHARE:
        weights = SCENE_TYPES[scene.scene_type]
        absent = [c for c in CATEGORIES if c not in counts]
        shares = np.array([weights[c] for c in absent])
        asked.append((absent[int(rng.choice(len(absent), p=shares / shares.sum()))], 0))
    questions = []
    for category, count in asked:
        wording = _COUNT_WORDINGS[int(rng.choice(len(_COUNT_WORDINGS), p=_COUNT_SHARES))]
        text = wording.format(plural=plural(category))
        questions.append(
            SceneQuestion(text, str(count), "counting", "how many", "number", (category,))
        )
    return questions


def _centroids(scene: Scene) -> list[tuple[float, float]]:
    """Return each object's centre (x, y): the mean of its visible pixels."""
    centres = []
    for index in range(len(scene.objects)):
        rows, columns = np.nonzero(scene.instance_map == index)
        centres.append((float(columns.mean()), float(rows.mean())))
    return centres


def _relation_between(
    a: tuple[float, float], b: tuple[float, float], axis: int
) -> tuple[int, float]:
    """Return on which side of `b` along an axis `a` is (-1 or 1), and the distance in pixels."""
    gap = a[axis] - b[axis]
    return (-1 if gap < 0 else 1), abs(gap)


def spatial_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Ask how two objects lie to each other, when both categories occur once.

    For each pair of objects, at most one yes/no question per axis along which their centres are
    far enough apart: at least `CLEAR_SEPARATION` pixels, or, for half of those that are nearer,
    `NEAR_SEPARATION`. Half of the answers are "no", mostly with the reversed relation and
    sometimes with a relation along the other axis. Where exactly one object lies clearly on a
    side of another, some questions ask which.
    """
    centres = _centroids(scene)
    counts = Counter(o.category for o in scene.objects)
    unique = [i for i, o in enumerate(scene.objects) if counts[o.category] == 1]
    questions = []
    for position, first in enumerate(unique):
        for second in unique[position + 1 :]:
            for axis in (0, 1):
                a, b = (first, second) if rng.random() < 0.5 else (second, first)
                question = _relation_question(scene, centres, a, b, axis, rng)
                # Both axes can give one text, when one of them takes the other's relation.
                if question is not None and question not in questions:
                    questions.append(question)
    if len(questions) > _MAX_RELATIONS:
        kept = rng.choice(len(questions), _MAX_RELATIONS, replace=False)
        questions = [questions[int(i)] for i in sorted(kept)]
    return questions + _object_answer_questions(scene, centres, unique, rng)


def _relation_question(
    scene: Scene,
    centres: Sequence[tuple[float, float]],
    a: int,
    b: int,
    axis: int,
    rng: np.random.Generator,
) -> SceneQuestion | None:
    side, gap = _relation_between(centres[a], centres[b], axis)
    if gap < NEAR_SEPARATION:
        return None
    if gap < CLEAR_SEPARATION and rng.random() >= _HARD_KEEP_SHARE:
        return None
    holds = rng.random() < 0.5
    if not holds:
        other, other_gap = _relation_between(centres[a], centres[b], 1 - axis)
        # The other axis makes a plain "no" only where its own relation is plain.
        if other_gap >= CLEAR_SEPARATION and rng.random() < _SWAPPED_AXIS_SHARE:
            axis, side = 1 - axis, other
        side = -side
    relation = _NAMES[axis, side]
    nouns = (scene.objects[a].category, scene.objects[b].category)
    text = f"Is the {nouns[0]} {relation} the {nouns[1]}?"
    return SceneQuestion(text, "yes" if holds else "no", "spatial", "is the", "yes/no", nouns)


def _object_answer_questions(
    scene: Scene,
    centres: Sequence[tuple[float, float]],
    unique: Sequence[int],
    rng: np.random.Generator,
) -> list[SceneQuestion]:
    """Ask what lies on a side of an object, where exactly one object clearly does."""
    questions = []
    for b in unique:
        for relation, (axis, sign) in RELATIONS.items():
            gaps = [
                (sign * (centres[i][axis] - centres[b][axis]), o)
                for i, o in enumerate(scene.objects)
                if i != b
            ]
            beyond = [o for gap, o in gaps if gap > -CLEAR_SEPARATION / 3]
            clear = [o for gap, o in gaps if gap >= CLEAR_SEPARATION]
            if len(clear) != 1 or len(beyond) != 1 or rng.random() >= _OBJECT_ANSWER_SHARE:
                continue
            noun, answer = scene.objects[b].category, clear[0].category
            text = f"What is {relation} the {noun}?"
            questions.append(SceneQuestion(text, answer, "spatial", "what is", "other", (noun,)))
    return questions


def open_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Ask the colour of each category that is present in one colour; sometimes, the place."""
    counts = Counter(o.category for o in scene.objects)
    colors_of: dict[str, set[str]] = {}
    for o in scene.objects:
        colors_of.setdefault(o.category, set()).add(o.color)
    questions = []
    for category, colors in colors_of.items():
        if len(colors) > 1:
            continue
        alone = counts[category] == 1
        question_type = f"what color {'is' if alone else 'are'} the"
        noun = category if alone else plural(category)
        text = f"{question_type.capitalize()} {noun}?"
        (color,) = colors
        questions.append(SceneQuestion(text, color, "open", question_type, "other", (category,)))
    if rng.random() < _PLACE_SHARE:
        text = _PLACE_WORDINGS[int(rng.integers(len(_PLACE_WORDINGS)))]
        # VQA v2 files questions whose first words are on no list under this type.
        question_type = "what" if text.startswith("What") else "none of the above"
        questions.append(SceneQuestion(text, scene.scene_type, "open", question_type, "other", ()))
    return questions

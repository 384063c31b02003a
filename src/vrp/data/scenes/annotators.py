"""Ten simulated annotators per question, who disagree where a scene is hard to see."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from vrp.data.scenes.draw import SCENE_TYPES, Scene, SceneObject
from vrp.data.scenes.questions import SceneQuestion
from vrp.data.scoring import COUNTED

N_ANNOTATORS: Final = 10

_BASE_ERROR: Final = 0.04
_SMALL_ERROR: Final = 0.06
_OCCLUDED_ERROR: Final = 0.06
_FAINT_ERROR: Final = 0.12
_NUMBER_WORD_SHARE: Final = 0.04

_LOOK_ALIKE_COLORS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("orange", "purple"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "white"),
    "green": ("blue", "yellow"),
    "blue": ("purple", "green"),
    "purple": ("blue", "red"),
    "white": ("yellow", "blue"),
}

_LOOK_ALIKES: Final[dict[str, tuple[str, ...]]] = {
    "car": ("house", "boat"),
    "boat": ("umbrella", "kite"),
    "fish": ("boat", "kite"),
    "house": ("book", "boat"),
    "tree": ("umbrella", "lamp"),
    "kite": ("fish", "boat"),
    "umbrella": ("lamp", "boat"),
    "ball": ("clock", "tree"),
    "clock": ("ball", "cup"),
    "cup": ("bottle", "ball"),
    "bottle": ("cup", "lamp"),
    "book": ("house", "cup"),
    "chair": ("lamp", "house"),
    "lamp": ("umbrella", "bottle"),
}


class AnnotatorAnswer(NamedTuple):
    """One annotator's answer, with the fields of VQA v2."""

    answer: str
    """What was written."""
    answer_confidence: str
    """"yes", "maybe" or "no"."""
    answer_id: int
    """1 to 10."""


def error_probability(question: SceneQuestion, scene: Scene) -> float:
    """Return the chance that one annotator errs: higher for small, hidden or faint objects.

    The hardest of the objects that the question is about decides.
    """
    involved = [o for o in scene.objects if o.category in question.nouns]
    if question.answer_type == "other" and question.task == "spatial":
        involved += [o for o in scene.objects if o.category == question.answer]
    return _BASE_ERROR + max(map(_difficulty, involved), default=0.0)


def _difficulty(o: SceneObject) -> float:
    return (
        _SMALL_ERROR * (o.size < 18)
        + _OCCLUDED_ERROR * (o.visible_share < 0.8)
        + _FAINT_ERROR * (o.contrast < 0.7)
    )


def annotate(
    question: SceneQuestion, scene: Scene, rng: np.random.Generator
) -> list[AnnotatorAnswer]:
    """Simulate the ten answers to one question.

    Each annotator errs on their own with `error_probability`: a count off by one, a neighbouring
    colour, a look-alike object, another place, the other of yes and no. A few counts are written
    as words. Who errs, or finds the question hard, is less often sure.
    """
    probability = error_probability(question, scene)
    answers = []
    for annotator in range(1, N_ANNOTATORS + 1):
        errs = rng.random() < probability
        answer = _wrong_answer(question, rng) if errs else question.answer
        if question.answer_type == "number" and rng.random() < _NUMBER_WORD_SHARE:
            answer = COUNTED[int(answer)]
        unsure = 0.5 if errs else probability
        confidence = "yes"
        if rng.random() < unsure:
            confidence = "maybe" if rng.random() < 0.8 else "no"
        answers.append(AnnotatorAnswer(answer, confidence, annotator))
    return answers


def _wrong_answer(question: SceneQuestion, rng: np.random.Generator) -> str:
    truth = question.answer
    if question.answer_type == "yes/no":
        return "no" if truth == "yes" else "yes"
    if question.answer_type == "number":
        # Objects are overlooked more often than invented.
        return str(int(truth) + (-1 if truth != "0" and rng.random() < 0.7 else 1))
    if truth in SCENE_TYPES:
        others: Sequence[str] = [place for place in SCENE_TYPES if place != truth]
    else:
        others = _LOOK_ALIKE_COLORS.get(truth) or _LOOK_ALIKES[truth]
    return others[int(rng.integers(len(others)))]

"""POPE's own procedure: which present and which absent objects are asked about."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from vrp.data.datasets.pope import POPE_SPLITS
from vrp.data.scenes.draw import Purpose, Scene, scene_rng
from vrp.data.scenes.questions import existence_question

OBJECTS_ASKED: Final = 3
"""Present objects asked about per image, and as many absent ones: six questions an image."""


class ImageObjects(NamedTuple):
    """What one image holds, as POPE sees it."""

    image: str
    """File name."""
    objects: tuple[str, ...]
    """Distinct categories in the image; the first `OBJECTS_ASKED` are asked about."""
    seed: int
    """Seed of the random absent objects of this image."""


class PopeQuestion(NamedTuple):
    """One line of a POPE question file."""

    question_id: int
    """From 1, in the order of the file."""
    image: str
    """File name of the image."""
    text: str
    """Such as "Is there a car in the image?"."""
    label: str
    """"yes" or "no"."""


def image_objects(image: str, scene: Scene) -> ImageObjects:
    """Take a scene's distinct categories in a random order, and draw the image's (file's) seed."""
    rng = scene_rng(scene.seed, Purpose.POPE)
    distinct = sorted({o.category for o in scene.objects})
    objects = tuple(distinct[int(i)] for i in rng.permutation(len(distinct)))
    return ImageObjects(image, objects, int(rng.integers(2**63)))


def _ranked(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first, ties by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def object_frequencies(images: Sequence[ImageObjects]) -> dict[str, int]:
    """Return in how many images each category is, most frequent first, ties by name."""
    return _ranked(Counter(name for image in images for name in image.objects))


def co_occurrences(images: Sequence[ImageObjects]) -> dict[str, dict[str, int]]:
    """Return, for each category, in how many images each other is beside it, as frequencies are."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        for name in image.objects:
            counts[name].update(other for other in image.objects if other != name)
    return {name: _ranked(others) for name, others in counts.items()}


def pope_questions(images: Sequence[ImageObjects], split: str) -> list[PopeQuestion]:
    """Ask about present and absent objects of every image, as the published POPE code does.

    For each image, each of its first three objects ("yes") is followed by one absent object
    ("no"), never the same twice: drawn at random among all categories of the data set (random);
    the most frequent one in the data set (popular); the one that most often occurs with the
    present object just asked about (adversarial). Where none is left of the last two kinds, it
    is drawn at random. (Li et al. 2023, "Evaluating Object Hallucination in Large
    Vision-Language Models", section 4; ties are broken by name, so that no order matters.)

    Raises:
        ValueError: a split that is none of `POPE_SPLITS`, or an image with fewer than
            `OBJECTS_ASKED` distinct objects present or absent.
    """
    if split not in POPE_SPLITS:
        raise ValueError(f"unknown POPE split {split!r}; it is one of {', '.join(POPE_SPLITS)}")
    frequencies = object_frequencies(images)
    neighbours = co_occurrences(images)
    questions: list[PopeQuestion] = []
    for image in images:
        if not OBJECTS_ASKED <= len(set(image.objects)) <= len(frequencies) - OBJECTS_ASKED:
            raise ValueError(f"{image.image}: needs {OBJECTS_ASKED} objects present and absent")
        rng = scene_rng(image.seed, Purpose.POPE)
        absent = [name for name in frequencies if name not in image.objects]
        for present in image.objects[:OBJECTS_ASKED]:
            ranked = {"popular": frequencies, "adversarial": neighbours[present]}.get(split, {})
            chosen = next((name for name in ranked if name in absent), None)
            if chosen is None:
                chosen = sorted(absent)[int(rng.integers(len(absent)))]
            absent.remove(chosen)
            for name, label in ((present, "yes"), (chosen, "no")):
                text = existence_question(name)
                questions.append(PopeQuestion(len(questions) + 1, image.image, text, label))
    return questions

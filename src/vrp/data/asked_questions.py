"""Questions that rows of an answer file may name: by id, by image, by what they ask."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from vrp.data.answer_fields import KnownImages, KnownQuestions, Scalar, as_id, as_text
from vrp.data.datasets import dataset_names
from vrp.data.json_input import printable
from vrp.data.split_names import fitting_splits


class Asked(NamedTuple):
    """A question as far as an answer's row may repeat it."""

    split: str
    question_id: str
    text: str
    image: str = ""
    """File name, or image id; empty: not known."""
    label: str | None = None
    """Yes or no, of questions that are scored as POPE's are."""
    truths: frozenset[str] = frozenset()
    """Normalised answers of the annotators, of all other questions."""
    source: str = ""
    """Name of the question file."""
    is_scored: bool = True
    """Whether it is known what is right; else it may have an answer, but need not."""

    @property
    def name(self) -> str:
        """Its id, for a message."""
        return f"question_id {printable(self.question_id)}"


class Questions:
    """What was asked, ready to be looked up.

    Args:
        asked: the questions that answers are wanted to.
        others: questions of other files, which a row may repeat by mistake.
        unanswerable: ids of questions that cannot be scored, for messages.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        *,
        others: Iterable[Asked] = (),
        unanswerable: Collection[str] = (),
    ) -> None:
        every = [*asked, *others]
        self.asked = list(asked)
        self.sources = {question.split: question.source for question in asked}
        self.words = [as_text(question.text).words for question in asked]
        self.known = KnownQuestions(question.text for question in every)
        self.images = KnownImages(question.image for question in every if question.image)
        self.unanswerable = frozenset(unanswerable)
        self._of_id: dict[str, list[int]] = defaultdict(list)
        self._of_image: dict[str, list[int]] = defaultdict(list)
        for place, question in enumerate(asked):
            self._of_id[question.question_id].append(place)
            self._of_image[self.images.key(question.image)].append(place)

    def with_id(self, value: Scalar) -> list[int]:
        """Questions with an id; ``2.0`` is 2, and ``pope/random/2`` an item's id in this study."""
        key = as_id(value) or ""
        if key not in self._of_id and re.fullmatch(r"\d+\.0+", key):
            key = key.partition(".")[0]
        if key not in self._of_id and key.count("/") > 1:
            dataset, split, last = key.split("/", 2)
            of_split = fitting_splits(split, self.sources) if dataset in dataset_names() else ()
            return [i for i in self._of_id.get(last, ()) if self.asked[i].split in of_split]
        return self._of_id.get(key, [])

    def about(self, image: str, texts: Iterable[str]) -> list[int]:
        """Questions about an image that one of the texts contains."""
        within = [self.known.within(text) for text in texts]
        return [
            i
            for i in self._of_image.get(self.images.key(image), ())
            if self.images.same(image, self.asked[i].image)
            and any(self.words[i] in found for found in within)
        ]

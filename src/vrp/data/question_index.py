"""Questions that rows of an answer file may name: by id, by image, by what they ask."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from vrp.data.answer_fields import Scalar, as_id, image_key
from vrp.data.datasets import dataset_names
from vrp.data.json_input import printable
from vrp.data.scoring import normalise_vqa
from vrp.data.split_names import fitting_splits

_WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af]+")
_SENTENCE_GOES_ON = re.compile(r"[ \t]+\w[^.?!\n]*\?")
_ASKED = re.compile(r"[^.?!:>\n]*\?")
_SAME_START = 3


Words = tuple[str, ...]


class Text(NamedTuple):
    """A text's words, in lower case and without punctuation, and where each ends in it."""

    text: str
    words: Words
    ends: tuple[int, ...]


def as_text(value: str) -> Text:
    """The words of a text; ``imange``, a misprint of early POPE files, is ``image``."""
    text = unicodedata.normalize("NFKC", value)
    found = list(_WORD.finditer(text))
    words = tuple(match[0].casefold() for match in found)
    if "imange" in words:
        words = tuple("image" if word == "imange" else word for word in words)
    return Text(text, words, tuple(match.end() for match in found))


class KnownQuestions:
    """Finds which of many questions a text contains."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._known = {as_text(question).words for question in questions} - {()}
        self._lengths: dict[str, set[int]] = defaultdict(set)
        for words in self._known:
            self._lengths[words[0]].add(len(words))
        self._starts = {words[:_SAME_START] for words in self._known}
        self._found: dict[str, frozenset[Words]] = {}

    def __contains__(self, words: Words) -> bool:
        return words in self._known

    def is_like(self, value: str) -> bool:
        """Whether a text asks something in the first words of a known question."""
        asked = (as_text(sentence).words for sentence in _ASKED.findall(value))
        return any(words[:_SAME_START] in self._starts for words in asked)

    def within(self, value: str) -> frozenset[Words]:
        """The questions that a text contains as whole sentences, none that is part of another."""
        if value not in self._found:
            self._found[value] = frozenset(self._search(as_text(value)))
        return self._found[value]

    def opens(self, value: str, *, but: Collection[str]) -> bool:
        """Whether a text begins with a known question, ``but`` for words before it."""
        words = as_text(value).words
        start = next((i for i, word in enumerate(words) if word not in but), len(words))
        return any(words[start : start + n] in self._known for n in self._lengths_at(words, start))

    def _lengths_at(self, words: Words, start: int) -> set[int]:
        return self._lengths.get(words[start], set()) if start < len(words) else set()

    def _search(self, text: Text) -> Iterable[Words]:
        covered = 0
        for start, word in enumerate(text.words):
            fitting = (n for n in self._lengths.get(word, ()) if n <= len(text.words) - start)
            here = (text.words[start : start + n] for n in fitting)
            longest = max((words for words in here if words in self._known), key=len, default=())
            if longest and start + len(longest) > covered:
                covered = start + len(longest)
                if not _SENTENCE_GOES_ON.match(text.text, text.ends[covered - 1]):
                    yield longest


class KnownImages:
    """Compares names of images, which may be paths, file names or ids."""

    def __init__(self, images: Iterable[str]) -> None:
        self._names: dict[str, set[str]] = {}
        for image in images:
            self._names.setdefault(image_key(image), set()).add(image)

    def __contains__(self, name: str) -> bool:
        return image_key(name) in self._names

    def same(self, name: str, image: str) -> bool:
        """Whether a name means this one of the images.

        Where several images share the file name or number, their folders and suffixes count.
        """
        key = image_key(name)
        if key != image_key(image):
            return False
        if len(self._names.get(key, ())) < 2:
            return True
        given, known = _levels(name), _levels(image)
        shorter = min(len(given), len(known))
        return given[-shorter:] == known[-shorter:]


def _levels(path: str) -> list[str]:
    return re.split(r"[\\/]", path.strip())


def _closeness(name: str, image: str) -> tuple[int, bool]:
    """How much of its path a name says of the image that it means, to compare with others."""
    given, known = len(_levels(name)), len(_levels(image))
    return min(given, known), given == known


class Asked(NamedTuple):
    """A question as far as an answer's row may repeat it."""

    split: str
    question_id: str
    text: str
    image: str = ""
    """File name, or image id; empty: not known."""
    label: str | None = None
    """Yes or no, of questions that are scored as POPE's are."""
    answers: Sequence[str] = ()
    """Of the annotators, of all other questions; none where it is not known what is right."""
    parts: tuple[str, ...] = ()
    """Answer type and task, for VQA's measures by part."""
    source: str = ""
    """Name of the question file."""

    @property
    def is_scored(self) -> bool:
        """Whether it is known what is right; else it may have an answer, but need not."""
        return self.label is not None or bool(self.answers)

    @property
    def truths(self) -> frozenset[str]:
        """Normalised answers of the annotators."""
        return frozenset(map(normalise_vqa, self.answers))

    @property
    def name(self) -> str:
        """Its id, for a message."""
        return f"question_id {printable(self.question_id)}"


class Questions:
    """What was asked, ready to be looked up.

    A row may repeat one of the ``others``, of other files, by mistake. ``unanswerable``: ids of
    questions that cannot be scored, for messages.
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
            self._of_image[image_key(question.image)].append(place)

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
        """Questions about an image that one of the texts contains; of several images of this file
        name in one split, those whose folders fit best.
        """
        within = [self.known.within(text) for text in texts]
        found = [
            i
            for i in self._of_image.get(image_key(image), ())
            if self.images.same(image, self.asked[i].image)
            and any(self.words[i] in found for found in within)
        ]
        best: dict[str, tuple[int, bool]] = {}
        close = {i: _closeness(image, self.asked[i].image) for i in found}
        for i, fit in close.items():
            best[self.asked[i].split] = max(fit, best.get(self.asked[i].split, fit))
        return [i for i, fit in close.items() if fit == best[self.asked[i].split]]

"""What the fields of other people's rows mean: by their names, and where these are not known by
what they hold.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from vrp.data.item import YES_NO

Scalar = str | int | float | bool

ANSWER_KEYS = (
    "answer", "text", "response", "prediction", "pred", "output", "model_answer", "generated_text",
    "filtered_resps", "resps", "model_output", "model_response", "model_prediction", "model_pred",
    "pred_answer", "predicted_answer", "predict", "generated_answer", "generated", "generation",
    "completion", "outputs", "reply", "response_text", "responses",
    "predictions", "ans", "content",
)  # fmt: skip
"""Under which an answer file may hold the free text, where the reader is not told."""
WITHIN_ANSWER = frozenset({"body", "choices", "message", "messages", "content", "value"})
"""Levels between an answer's key and its text, as chat interfaces write them."""

_ID = re.compile(r"(?:^|_)(?:question_?id|qid|q_id)$")
_NUMBER = re.compile(r"(?:^|_)(?:id|idx|index|questionidx|uid|key|number|no|nr|num|line|row)$")
_QUESTION = re.compile(r"(?:^|_)(?:question|prompt|query)(?:_?(?:text|str))?$")
_IMAGE = re.compile(
    r"(?:^|_)(?:image|img|picture|photo)s?(?:_?(?:id|path|file|name|source|filename))?$"
)
_LABEL = re.compile(
    r"(?:^|_)(?:labels?|targets?|gts?|gold|truth|ground_?truths?|references?|expected|solution"
    r"|y|y_?true|(?:gt|gold|true|correct|right|reference|expected|doc)_ans(?:wers?)?|answers|annotations?"
    r"|answers?_(?:gt|true|gold|answer)|multiple_choice_answer)$"
)
_PREDICTED = re.compile(r"pred|pars|extract|model|output")
_SPLIT = re.compile(
    r"(?:^|_)(?:splits?|category|categories|subset|type|setting|variant|task|task_name|dataset"
    r"|dataset_name|source|file)$"
)
_OF_THE_MODEL = re.compile(
    r"pred|pars|extract|resp|output|model|norm|clean|gen|judge|score|match|hit|acc|conf|cert"
    r"|correct$|right$|wrong$"
)
_WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af]+")
_SENTENCE_GOES_ON = re.compile(r"[ \t]+\w[^.?!\n]*\?")
_IMAGE_SUFFIX = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)
_COCO_ID = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?0*(\d{1,18})")
_COCO_NAME = re.compile(r"(?:^|[\\/])COCO_(?:train|val|test)\d{4}_\d{1,18}$")
_YES_NO = re.compile(rf"({'|'.join(YES_NO)})(?:[.,!;]|$)")
_FIRST_WORDS = 4
_SAME_START = 3
_ASKED = re.compile(r"[^.?!:>\n]*\?")


def canonical(path: str) -> str:
    """A field's name in lower case with underscores: ``doc.questionId`` → ``doc_question_id``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path)
    parts = re.split(r"[\W_]+", spaced.lower())
    return "_".join(part for part in parts if part and not part.isdigit())


def names_id(name: str) -> bool:
    """Whether a field of this (canonical) name holds a question's id and nothing else."""
    return _ID.search(name) is not None


def names_number(name: str) -> bool:
    """Whether a field of this name may hold a question's id, or else number the rows."""
    return _NUMBER.search(name) is not None and not names_image(name)


def names_question(name: str) -> bool:
    """Whether a field of this name holds the question or a prompt around it."""
    return _QUESTION.search(name) is not None and "system" not in name


def names_image(name: str) -> bool:
    """Whether a field of this name holds the image's name or id."""
    return _IMAGE.search(name) is not None


def names_label(name: str) -> bool:
    """Whether a field of this name holds the right answer."""
    return _LABEL.search(name) is not None and _PREDICTED.search(name) is None


def names_split(name: str) -> bool:
    """Whether a field of this name may hold the split, among other things."""
    return _SPLIT.search(name) is not None


def is_of_the_model(name: str) -> bool:
    """Whether a field of this name holds what a model said, or what came of it."""
    by_name = _OF_THE_MODEL.search(name) is not None or name in ANSWER_KEYS
    return by_name and not names_question(name)


def as_id(value: Scalar) -> str | None:
    """An id as a string; 2.0 is 2, as spreadsheets write integers. None: no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip() or None


def as_yes_no(value: Scalar, *, coded: bool) -> str | None:
    """A label as yes or no; None: it is neither. ``coded``: 1 and 0, true and false count."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if opening := _YES_NO.match(word):
            return opening[1]
        value = {"1": 1, "0": 0, "true": 1, "false": 0}.get(word, 2)
    return {1: "yes", 0: "no"}.get(int(value)) if coded and value in (0, 1) else None


class Text(NamedTuple):
    """A text's words, in lower case and without punctuation, and where each ends in it."""

    text: str
    words: tuple[str, ...]
    ends: tuple[int, ...]


def as_text(value: str) -> Text:
    """The words of a text; ``imange``, a misprint of early POPE files, is ``image``."""
    text = unicodedata.normalize("NFKC", value)
    found = list(_WORD.finditer(text))
    words = tuple(match[0].casefold() for match in found)
    if "imange" in words:
        words = tuple("image" if word == "imange" else word for word in words)
    return Text(text, words, tuple(match.end() for match in found))


Words = tuple[str, ...]


class KnownQuestions:
    """Finds which of many questions a text contains."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._known = {as_text(question).words for question in questions} - {()}
        self._lengths: dict[Words, set[int]] = {}
        for words in self._known:
            self._lengths.setdefault(words[:_FIRST_WORDS], set()).add(len(words))
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

    def _search(self, text: Text) -> Iterable[Words]:
        covered = 0
        for start in range(len(text.words)):
            length = self._longest(text.words, start)
            stop = start + length
            if length and stop > covered:
                covered = stop
                if not _SENTENCE_GOES_ON.match(text.text, text.ends[stop - 1]):
                    yield text.words[start:stop]

    def _longest(self, words: Words, start: int) -> int:
        """Words of the longest question that begins here; 0: none does."""
        longest = 0
        for n_first in range(1, _FIRST_WORDS + 1):
            for length in self._lengths.get(words[start : start + n_first], ()):
                fits = longest < length <= len(words) - start
                if fits and words[start : start + length] in self._known:
                    longest = length
        return longest


class KnownImages:
    """Compares names of images, which may be paths, file names or ids."""

    def __init__(self, images: Iterable[str]) -> None:
        self._names: dict[str, set[str]] = {}
        for image in images:
            self._names.setdefault(self.key(image), set()).add(image)

    def __contains__(self, name: str) -> bool:
        return self.key(name) in self._names

    @staticmethod
    def key(name: str) -> str:
        """What all names of one image share: the COCO id, or the file name without its suffix."""
        last = re.split(r"[\\/]", name.strip().partition("?")[0])[-1]
        stem = _IMAGE_SUFFIX.sub("", last)
        coco = _COCO_ID.fullmatch(stem)
        return coco[1] if coco else stem

    def same(self, name: str, image: str) -> bool:
        """Whether a name means this one of the images.

        Where several images share the file name or number, their folders and suffixes count.
        """
        key = self.key(name)
        if key != self.key(image):
            return False
        if len(self._names.get(key, ())) < 2:
            return True
        given, known = (re.split(r"[\\/]", path.strip()) for path in (name, image))
        shorter = min(len(given), len(known))
        return given[-shorter:] == known[-shorter:]


def looks_like_image(value: str) -> bool:
    """Whether a text is the name of an image file or of one of COCO's images."""
    if len(value) > 300:
        return False
    name = value.strip().partition("?")[0]
    return _IMAGE_SUFFIX.search(name) is not None or _COCO_NAME.search(name) is not None

"""What the fields of other people's rows mean, by their names and by what they hold."""

import ast
import contextlib
import json
import re

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

_LAST_WORDS = {
    # A question's id and nothing else.
    "id": r"question_?id|qid|q_id",
    # An id, or else a number of the rows.
    "number": r"id|idx|index|questionidx|uid|key|number|no|nr|num|line|row",
    # The question or a prompt around it.
    "question": r"(?:question|prompt|query)(?:_?(?:text|str))?",
    "image": r"(?:image|img|picture|photo)s?(?:_?(?:id|path|file|name|source|filename))?",
    # The right answer.
    "label": (
        r"labels?|targets?|gts?|gold|truth|ground_?truths?|references?|expected|solution"
        r"|y|y_?true|(?:gt|gold|true|correct|right|reference|expected|doc)_ans(?:wers?)?|answers"
        r"|annotations?|answers?_(?:gt|true|gold|answer)|multiple_choice_answer"
    ),
    # The split, among other things.
    "split": (
        r"splits?|category|categories|subset|type|setting|variant|task|task_name|dataset"
        r"|dataset_name|source|file"
    ),
}
"""What a field may hold → the last words of its (canonical) name."""
_MEANINGS = {what: re.compile(f"(?:^|_)(?:{words})$") for what, words in _LAST_WORDS.items()}
_UNLESS = {
    "number": _MEANINGS["image"],
    "question": re.compile("system"),
    "label": re.compile("pred|pars|extract|model|output"),
}
_TRUTH = re.compile(
    r"(?:^|_)(?:labels?|targets?|gts?|gold|truth|ground|ref|references?|expected|solution)(?:_|$)"
)
_PLACE_WORD = (
    "doc|meta|metadata|inputs?|sample|item|data|visuals?|media|image|image_id"
    "|file_?names?|files?|paths?|urls?|uris?|src"
)
_PLACE = re.compile(f"(?:{_PLACE_WORD})(?:_(?:{_PLACE_WORD}))*")
"""Names of fields that say where the image is, if their values look like one."""
_MADE_OF_ANSWERS = re.compile(r"pred|pars|extract|judge|score|match|hit|acc|conf|cert|model")
_OF_THE_MODEL = re.compile(
    r"pred|pars|extract|resp|output|model|norm|clean|gen|judge|score|match|hit|acc|conf|cert"
    r"|correct$|right$|wrong$"
)
_IMAGE_SUFFIX = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)
_COCO_ID = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?0*(\d{1,18})")
_COCO_NAME = re.compile(r"(?:^|[\\/])COCO_(?:train|val|test)\d{4}_\d{1,18}$")
_YES_NO = re.compile(rf"({'|'.join(YES_NO)})(?:[.,!;]|$)")
_LETTERS = {word[0]: word for word in YES_NO}


def canonical(path: str) -> str:
    """A field's name in lower case with underscores: ``doc.questionId`` → ``doc_question_id``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path)
    parts = re.split(r"[\W_]+", spaced.lower())
    return "_".join(part for part in parts if part and not part.isdigit())


def names(what: str, name: str) -> bool:
    """Whether a field of this (canonical) name holds an id, a number, a question, an image, a label
    or a split.
    """
    unless = _UNLESS.get(what)
    return bool(_MEANINGS[what].search(name)) and not (unless and unless.search(name))


def is_of_the_model(name: str) -> bool:
    """Whether a field of this name holds what a model said, or what came of it."""
    by_name = _OF_THE_MODEL.search(name) is not None or name in ANSWER_KEYS
    return by_name and not names("question", name)


def may_be_truth(name: str) -> bool:
    """Whether a field of this name may hold what is right, ``expected_output`` among others."""
    return _TRUTH.search(name) is not None and _MADE_OF_ANSWERS.search(name) is None


def may_place_image(name: str) -> bool:
    """Whether a field of this name that holds the name of an image file holds the question's."""
    return _PLACE.fullmatch(name) is not None


def as_answers(value: Scalar) -> list[Scalar]:
    """A label's answers: itself, or those of a list or an object that it is the text of."""
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] not in ("[", "{"):
        return [value]
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return _answers_in(parse(text))
    return []


def _answers_in(value: object) -> list[Scalar]:
    if isinstance(value, list | tuple):
        return [answer for inner in value for answer in _answers_in(inner)]
    if isinstance(value, dict):
        return _answers_in(value.get("answer"))
    return [value] if isinstance(value, Scalar) else []


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
        if word in _LETTERS:
            return _LETTERS[word]
        value = {"1": 1, "0": 0, "true": 1, "false": 0}.get(word, 2)
    return {1: "yes", 0: "no"}.get(int(value)) if coded and value in (0, 1) else None


def image_key(name: str) -> str:
    """What all names of one image share: the COCO id, or the file name without its suffix."""
    last = re.split(r"[\\/]", name.strip().partition("?")[0])[-1]
    stem = _IMAGE_SUFFIX.sub("", last)
    coco = _COCO_ID.fullmatch(stem)
    return coco[1] if coco else stem


def looks_like_image(value: str) -> bool:
    """Whether a text is the name of an image file or of one of COCO's images."""
    name = value.strip().partition("?")[0] if len(value) <= 300 else ""
    return bool(_IMAGE_SUFFIX.search(name) or _COCO_NAME.search(name))

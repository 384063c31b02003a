"""Rows of question files: which can be asked, and why the others are dropped."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vrp.data.item import Question, Reading, question_id_order
from vrp.data.json_input import Record, as_record
from vrp.data.scoring import majority_answer
from vrp.errors import InputError

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex

UNASSIGNED = "unassigned"
"""Split name under which questions that fit no task are accounted for."""


PLACEHOLDERS = ("<image>", "<|image_pad|>", "<|vision_start|>")
"""Where the families' prompts put an image: in a question they would ask for another one."""


class AnnotatedQuestion(NamedTuple):
    """A question joined with its annotation."""

    where: str
    """File and row, for messages."""
    question_id: str
    image: str
    """Its id, or its file name as written."""
    question: str
    answers: list[str]
    """As written; none where the question has no annotation."""
    answer_type: str | None = None
    """``yes/no``, ``number`` or ``other``; None where the annotation does not say."""


def records_under(document: dict[str, Any], path: Path, key: str) -> list[Record]:
    """The rows that a document has in the list under ``key``.

    Raises InputError naming file, key and row where there is no such list, or no object in it.
    """
    rows = document.get(key)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: key '{key}' must be a list with rows in it; wrong file?")
    return [as_record((f"{path}, {key} row {i}", row)) for i, row in enumerate(rows, 1)]


def refuse_reused_ids(ids: Iterable[tuple[str, str]]) -> None:
    """Raise InputError naming both places where two of (question id, place) have one id."""
    first_of: dict[str, str] = {}
    for question_id, where in ids:
        first = first_of.setdefault(question_id, where)
        if first != where:
            raise InputError(
                f"{where}: question_id {question_id} was used before ({first}); give each question "
                "an id of its own"
            )


def refuse_placeholder(question: str, *, where: str) -> None:
    """Raise InputError that opens with ``where`` for a question that holds an image's mark."""
    if placeholder := next((mark for mark in PLACEHOLDERS if mark in question), None):
        raise InputError(
            f"{where} holds {placeholder!r}; remove it: the prompt puts the image there itself"
        )


def reading_of(
    rows: list[AnnotatedQuestion],
    images: "ImageIndex",
    *,
    dataset: str,
    split: str,
    task: str,
    by_name: bool = False,
) -> Reading:
    """The questions of one split that can be asked, and an account of the others.

    Repeated (image, question) pairs are dropped, the smallest question id stays; so are questions
    without answers or without their image, and all of the split ``UNASSIGNED``. ``by_name``: rows
    name image files, not ids.
    """
    dropped: Counter[str] = Counter()
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    questions = []
    for row in sorted(rows, key=lambda row: question_id_order(row.question_id)):
        text = " ".join(row.question.split())
        image = images.find(row.image) if by_name else images.find_id(row.image)
        pair = (image or row.image, text)
        if split == UNASSIGNED:
            dropped["fits no task"] += 1
        elif not any(answer.strip() for answer in row.answers):
            dropped["no answers"] += 1
        elif pair in seen:
            dropped["duplicate of (image, question)"] += 1
        elif image is None:
            dropped[images.why_missing()] += 1
            missing.add(row.image)
            seen.add(pair)
        else:
            questions.append(
                Question(
                    dataset=dataset,
                    split=split,
                    task=task,
                    question_id=row.question_id,
                    image=image,
                    question=text,
                    answers=row.answers,
                    reference=majority_answer(row.answers),
                )
            )
            seen.add(pair)
    lost = sorted(missing, key=question_id_order)
    named = tuple(lost if by_name else (f"image_id {name}" for name in lost))
    return Reading(dataset, split, len(rows), tuple(questions), dict(dropped), named)

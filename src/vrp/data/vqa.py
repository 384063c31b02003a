"""Readers of the official VQA v2 files (questions and annotations) and of TextVQA."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from vrp.data.images import ImageIndex
from vrp.data.item import (
    COUNTING,
    OPEN,
    SPATIAL,
    TEXT,
    TEXTVQA,
    VQA,
    Question,
    Reading,
    question_id_order,
)
from vrp.data.json_input import Record, answers_field, id_field, read_json, text_field
from vrp.data.scoring import majority_answer
from vrp.errors import InputError

VQA_TASKS = (COUNTING, SPATIAL, OPEN)
"""In the order in which a question that fits several is given to one."""
TEXTVQA_ANNOTATORS = 10
"""Answers to every TextVQA question; its published evaluation refuses any other number."""
UNASSIGNED = "unassigned"
"""Split name under which questions that fit no task are accounted for."""
SPATIAL_RELATIONS = (
    "left of",
    "right of",
    "above",
    "below",
    "behind",
    "in front of",
    "next to",
    "on top of",
    "under",
    "between",
)

_HOW_MANY = re.compile(r"\W*how\s+many\b", re.IGNORECASE)
_RELATION = re.compile(
    r"\b(?:" + "|".join(r"\s+".join(words.split()) for words in SPATIAL_RELATIONS) + r")\b",
    re.IGNORECASE,
)


class VqaRow(NamedTuple):
    """A question joined with its annotation."""

    where: str
    """File and row, for messages."""
    question_id: str
    image_id: str
    question: str
    answers: list[str]
    """As written; none where the question has no annotation."""
    answer_type: str | None
    """``yes/no``, ``number`` or ``other``; None where the annotation does not say."""


def vqa_task(question: str, answer_type: str | None) -> str | None:
    """The task of a VQA question, the first that fits of counting, spatial, open; None: no task.

    counting: answer_type ``number`` and "How many …"; spatial: the question states one of
    ``SPATIAL_RELATIONS`` as whole words; open: answer_type ``other``.
    Raises LookupError where the task depends on an ``answer_type`` that is None.
    """
    how_many = _HOW_MANY.match(question) is not None
    spatial = _RELATION.search(question) is not None
    if answer_type is None and (how_many or not spatial):
        raise LookupError("answer_type")
    if how_many and answer_type == "number":
        return COUNTING
    if spatial:
        return SPATIAL
    return OPEN if answer_type == "other" else None


def read_vqa_rows(questions_path: Path, annotations_path: Path) -> list[VqaRow]:
    """Every question of a VQA v2 file joined with its annotation, in the file's order.

    Raises InputError naming file, row and key for what is malformed or missing, a question id used
    twice, and annotations that belong to none of the questions.
    """
    records = _records(read_json(questions_path), questions_path, "questions")
    annotations = _annotations(annotations_path)
    rows = [_join(record, annotations) for record in records]
    if not any(row.answers for row in rows):
        raise InputError(
            f"{annotations_path}: annotates none of the questions of {questions_path}; "
            "give the annotations of the same release and subset"
        )
    _refuse_reused_ids(rows)
    return rows


def read_vqa(
    questions_path: Path, annotations_path: Path, images: ImageIndex, *, task: str | None = None
) -> dict[str, Reading]:
    """Read VQA v2 questions with their annotations: task (= split) → what can be asked of it.

    Questions that fit no task are accounted for under ``UNASSIGNED``. With ``task`` every question
    gets that task. Annotations need ``question_id`` and ``answers``; ``answer_type`` only where
    the task depends on it. Repeated (image, question) pairs are dropped, the smallest question id
    stays. Raises InputError as ``read_vqa_rows`` and where an ``answer_type`` is wanting.
    """
    rows = read_vqa_rows(questions_path, annotations_path)
    splits: dict[str, list[VqaRow]] = {split: [] for split in (*VQA_TASKS, UNASSIGNED)}
    if task is not None:
        splits = {task: rows}
    else:
        for row in rows:
            splits[_split_of(row, annotations_path)].append(row)
    return {
        split: _reading(rows_of_split, images, dataset=VQA, split=split, task=split)
        for split, rows_of_split in splits.items()
    }


def read_textvqa(path: Path, images: ImageIndex, *, split: str) -> Reading:
    """Read an official TextVQA file (``data``: question_id, image_id, question, answers).

    Of splits whose answers are held back, every question is dropped and counted. Raises
    InputError naming file, row and key for what is malformed or missing, a question id used twice,
    and answers of more or fewer than ``TEXTVQA_ANNOTATORS`` annotators.
    """
    rows = [_textvqa_row(record) for record in _records(read_json(path), path, "data")]
    _refuse_reused_ids(rows)
    return _reading(rows, images, dataset=TEXTVQA, split=split, task=TEXT)


def _textvqa_row(record: Record) -> VqaRow:
    held_back = record.fields.get("set_name") == "test" and "answers" not in record.fields
    answers = [] if held_back else answers_field(record, "answers")
    if len(answers) not in (0, TEXTVQA_ANNOTATORS):
        raise InputError(
            f"{record.where}: key 'answers' holds {len(answers)} answers; TextVQA has "
            f"{TEXTVQA_ANNOTATORS} to every question (give other data as `dataset: own`)"
        )
    return VqaRow(
        where=record.where,
        question_id=id_field(record, "question_id"),
        image_id=id_field(record, "image_id"),
        question=text_field(record, "question"),
        answers=answers,
        answer_type=None,
    )


def _reading(
    rows: list[VqaRow], images: ImageIndex, *, dataset: str, split: str, task: str
) -> Reading:
    dropped: Counter[str] = Counter()
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    questions = []
    for row in sorted(rows, key=lambda row: question_id_order(row.question_id)):
        text = " ".join(row.question.split())
        image = images.find_id(row.image_id)
        pair = (image or row.image_id, text)
        if split == UNASSIGNED:
            dropped["fits no task"] += 1
        elif not any(answer.strip() for answer in row.answers):
            dropped["no answers"] += 1
        elif pair in seen:
            dropped["duplicate of (image, question)"] += 1
        elif image is None:
            dropped[images.why_missing()] += 1
            missing.add(row.image_id)
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
    lost = tuple(f"image_id {name}" for name in sorted(missing, key=question_id_order))
    return Reading(dataset, split, len(rows), tuple(questions), dict(dropped), lost)


def _annotations(path: Path) -> dict[str, Record]:
    by_id: dict[str, Record] = {}
    for record in _records(read_json(path, object_hook=_bare_answer), path, "annotations"):
        question_id = id_field(record, "question_id")
        if question_id in by_id:
            raise InputError(
                f"{record.where}: question_id {question_id} is annotated twice "
                f"(also {by_id[question_id].where}); remove one"
            )
        by_id[question_id] = record
    return by_id


def _bare_answer(fields: dict[str, Any]) -> Any:
    # Two million answer objects of three keys would fill the memory of a small machine.
    answer = fields.get("answer")
    if isinstance(answer, str) and "question_id" not in fields:
        return sys.intern(answer)
    return fields


def _records(document: dict[str, Any], path: Path, key: str) -> list[Record]:
    rows = document.get(key)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: key '{key}' must be a list with rows in it; wrong file?")
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{path}, {key} row {i}: not an object; mend or re-download the file")
    return [Record(f"{path}, {key} row {i}", row) for i, row in enumerate(rows, 1)]


def _join(record: Record, annotations: dict[str, Record]) -> VqaRow:
    question_id = id_field(record, "question_id")
    annotation = annotations.get(question_id)
    answer_type = None if annotation is None else annotation.fields.get("answer_type")
    if answer_type is not None and not isinstance(answer_type, str):
        raise InputError(f"{record.where}: the annotation's 'answer_type' is not a string")
    return VqaRow(
        where=record.where,
        question_id=question_id,
        image_id=id_field(record, "image_id"),
        question=text_field(record, "question"),
        answers=[] if annotation is None else answers_field(annotation, "answers"),
        answer_type=answer_type,
    )


def _split_of(row: VqaRow, annotations_path: Path) -> str:
    if not row.answers:
        return UNASSIGNED
    try:
        return vqa_task(row.question, row.answer_type) or UNASSIGNED
    except LookupError as error:
        raise InputError(
            f"{annotations_path}: question_id {row.question_id} has no 'answer_type', which its "
            "task depends on; give the full official annotations, or one task for the whole file"
        ) from error


def _refuse_reused_ids(rows: list[VqaRow]) -> None:
    first_of: dict[str, VqaRow] = {}
    for row in rows:
        first = first_of.setdefault(row.question_id, row)
        if first is not row:
            raise InputError(
                f"{row.where}: question_id {row.question_id} was used before ({first.where}); "
                "give each question an id of its own"
            )

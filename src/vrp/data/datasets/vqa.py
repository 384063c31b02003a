"""VQA v2: questions about COCO's photographs, each answered by ten people."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.data.answer_fields import image_key
from vrp.data.dataset import COCO_VAL2014, Archive, Dataset, HubColumns, OfficialFile, Row
from vrp.data.hub_columns import answers_column, choice_column, id_column, text_column
from vrp.data.item import COUNTING, OPEN, SPATIAL, Reading
from vrp.data.json_input import (
    Record,
    answers_field,
    id_field,
    printable,
    read_json,
    text_field,
)
from vrp.data.question_files import (
    UNASSIGNED,
    AnnotatedQuestion,
    reading_of,
    records_under,
    refuse_reused_ids,
)
from vrp.data.vqa_task_rules import is_counting_question, is_spatial_question
from vrp.errors import InputError

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex

_ANSWER_TYPES = ("yes/no", "number", "other")
VQA_TASKS = (COUNTING, SPATIAL, OPEN)
"""In the order in which a question that fits several is given to one."""


def vqa_task(question: str, answer_type: str | None) -> str | None:
    """The task of a VQA question, the first that fits of counting, spatial, open; None: no task.

    counting: answer_type ``number``, and things are to be counted; spatial: the answer depends on
    where things are to each other (both by `vrp.data.vqa_task_rules`); open: answer_type
    ``other``. Raises LookupError where the task depends on an ``answer_type`` that is None.
    """
    counted = is_counting_question(question)
    spatial = is_spatial_question(question)
    if answer_type is None and (counted or not spatial):
        raise LookupError("answer_type")
    if counted and answer_type == "number":
        return COUNTING
    if spatial:
        return SPATIAL
    return OPEN if answer_type == "other" else None


def read_vqa_rows(questions_path: Path, annotations_path: Path) -> list[AnnotatedQuestion]:
    """Every question of a VQA v2 file joined with its annotation, in the file's order.

    Raises InputError naming file, row and key for what is malformed or missing, a question id used
    twice, an annotation of another image, and annotations that belong to none of the questions.
    """
    records = records_under(read_json(questions_path), questions_path, "questions")
    annotations = _annotations(annotations_path)
    refuse_reused_ids((id_field(record, "question_id"), record.where) for record in records)
    rows = [_join(record, annotations) for record in records]
    if not any(row.answers for row in rows):
        raise InputError(
            f"{annotations_path}: annotates none of the questions of {questions_path}; "
            "give the annotations of the same release and subset"
        )
    return rows


def read_vqa(
    questions_path: Path, annotations_path: Path, images: "ImageIndex"
) -> dict[str, Reading]:
    """Read VQA v2 questions with their annotations: task (= split) → what can be asked of it.

    Questions that fit no task are accounted for under ``UNASSIGNED``. Annotations need
    ``question_id`` and ``answers``; ``answer_type`` only where the task depends on it. Repeated
    (image, question) pairs are dropped, the smallest question id stays. Raises InputError as
    ``read_vqa_rows`` and where an ``answer_type`` is wanting.
    """
    splits: dict[str, list[AnnotatedQuestion]] = {split: [] for split in (*VQA_TASKS, UNASSIGNED)}
    for row in read_vqa_rows(questions_path, annotations_path):
        try:
            task = vqa_task(row.question, row.answer_type) if row.answers else None
        except LookupError as error:
            raise InputError(
                f"{annotations_path}: question_id {row.question_id} has no 'answer_type', which "
                "its task depends on; give the full official annotations"
            ) from error
        splits[task or UNASSIGNED].append(row)
    return {
        split: reading_of(rows_of_split, images, dataset="vqa", split=split, task=split)
        for split, rows_of_split in splits.items()
    }


def _annotations(path: Path) -> dict[str, Record]:
    by_id: dict[str, Record] = {}
    for record in records_under(read_json(path, object_hook=_bare_answer), path, "annotations"):
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


def _join(record: Record, annotations: dict[str, Record]) -> AnnotatedQuestion:
    question_id = id_field(record, "question_id")
    annotation = annotations.get(question_id)
    if annotation is not None:
        _refuse_other_image(record, annotation)
    answer_type = None if annotation is None else annotation.fields.get("answer_type")
    if answer_type is not None and not isinstance(answer_type, str):
        raise InputError(f"{record.where}: the annotation's 'answer_type' is not a string")
    return AnnotatedQuestion(
        where=record.where,
        question_id=question_id,
        image=id_field(record, "image_id"),
        question=text_field(record, "question"),
        answers=[] if annotation is None else answers_field(annotation, "answers"),
        answer_type=answer_type,
    )


def _refuse_other_image(question: Record, annotation: Record) -> None:
    """Raise InputError where an annotation names another image than its question."""
    if annotation.fields.get("image_id") is None:
        return
    asked, annotated = id_field(question, "image_id"), id_field(annotation, "image_id")
    if image_key(asked) != image_key(annotated):
        raise InputError(
            f"{annotation.where}: key 'image_id' is {printable(annotated)}, but "
            f"{printable(asked)} at {question.where} for the same question_id; give the "
            "annotations of the same release and subset"
        )


def _official_rows(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    # The id under which the reader finds the file: COCO's number, or its name.
    named = str(row["image_id"]).strip()
    is_number = named.isascii() and named.isdigit()
    ids = {
        "image_id": int(named) if is_number else image.rpartition(".")[0],
        "question_id": id_column(row, "question_id", where),
    }
    rows: dict[str, dict[str, Any]] = {
        "questions": {**ids, "question": text_column(row, "question", where)}
    }
    answers = answers_column(row, "answers", where)
    if answers:  # splits whose answers are held back have none
        rows["annotations"] = {
            "question_type": row.get("question_type"),
            "multiple_choice_answer": row.get("multiple_choice_answer"),
            "answers": answers,
            "answer_type": choice_column(row, "answer_type", where, "VQA", _ANSWER_TYPES),
            **ids,
        }
    return rows


def _official_file(key: str) -> OfficialFile:
    header: dict[str, Any] = {"info": {}, "data_type": "mscoco", "license": {}}
    if key == "questions":
        header = {"task_type": "Open-Ended", **header}
    return OfficialFile(key, rows=key, header=header)


_URL = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"

DATASET = Dataset(
    name="vqa",
    order=20,
    tasks=VQA_TASKS,
    splits=VQA_TASKS,
    files={
        "questions": "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        "annotations": "vqa/v2_mscoco_val2014_annotations.json",
    },
    read=lambda places, images, splits: read_vqa(
        places.path("questions"), places.path("annotations"), images
    ),
    archives=(
        Archive(f"{_URL}/v2_Questions_Val_mscoco.zip", "vqa"),
        Archive(f"{_URL}/v2_Annotations_Val_mscoco.zip", "vqa"),
    ),
    # As in lmms-lab/VQAv2.
    hub=HubColumns(
        required=("question_id", "question", "image_id", "answers", "answer_type", "image"),
        image_ids=("image_id",),
        to_official=_official_rows,
        official_file=_official_file,
    ),
    scene_images="n_vqa_images",
    image_set=COCO_VAL2014,
    n_images=40_504,
    question_bytes=200_000_000,
)

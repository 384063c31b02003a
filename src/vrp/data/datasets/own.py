"""A user's own data: JSON lines of image, question and answers."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrp.data.dataset import Dataset, DatasetPlaces
from vrp.data.item import COUNTING, EXISTENCE, OPEN, SPATIAL, YES_NO, Question, Reading
from vrp.data.json_input import Record, answers_field, id_field, read_records, text_field
from vrp.data.question_files import refuse_placeholder, refuse_reused_ids
from vrp.data.scoring import majority_answer, normalise_vqa, parse_pope_strict
from vrp.errors import InputError

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex

OWN_TASKS = (EXISTENCE, COUNTING, SPATIAL, OPEN)
"""What own questions may ask for."""

OWN_KEYS = frozenset({"image", "question", "answers", "group", "task", "question_id"})


def read_own(path: Path, images: "ImageIndex", *, split: str, task: str | None = None) -> Reading:
    """Read own data, one JSON object per line.

    Keys: ``image`` (path below the data root, or a file name that is unique there), ``question``,
    ``answers`` (a list, or one string; null, or no such key in the whole file: not known), and
    optionally ``question_id`` (default: a digest of image and question, so that the order of lines
    does not matter), ``task`` (one of ``OWN_TASKS``) and ``group`` (items that must stay on one
    side of a fold although their images differ).
    A line that names no task has ``task``, where that is given and is not existence; else it is
    existence if every answer is yes or no, and open otherwise; without answers it has ``task``.
    Raises InputError naming file and line for what is malformed, an unknown key or task, a reused
    id, or a question that holds an image's placeholder.
    """
    return own_reading(read_records(path), images, split=split, task=task)


def own_reading(
    records: Sequence[Record], images: "ImageIndex", *, split: str, task: str | None = None
) -> Reading:
    """Lines of own data, as ``read_own`` describes them, whatever file they are from."""
    refuse_forgotten_answers(records)
    usable: list[Question] = []
    lost: list[Question] = []
    ids = []
    pairs: dict[tuple[str, str], str] = {}
    for record in records:
        name = text_field(record, "image").strip()
        image = images.find(name)
        question = own_question(record, name, split=split, task=task, image=image)
        first = pairs.setdefault((question.image, question.question), record.where)
        if first != record.where:
            raise InputError(
                f"{record.where}: same image and question as {first}; put all answers into the "
                "list of one line"
            )
        ids.append((question.question_id, record.where))
        (usable if image is not None else lost).append(question)
    refuse_reused_ids(ids)
    dropped = {images.why_missing(): len(lost)} if lost else {}
    missing = sorted({question.image for question in lost})
    return Reading("own", split, len(records), tuple(usable), dropped, tuple(missing))


def refuse_forgotten_answers(records: Sequence[Record]) -> None:
    """A file either has `answers` in all lines or in none, so that none is left out by mistake."""
    having = [record for record in records if record.fields.get("answers") is not None]
    lacking = [record for record in records if "answers" not in record.fields]
    if having and lacking:
        raise InputError(
            f"{lacking[0].where}: key 'answers' is missing (so in {len(lacking)} lines), unlike at "
            f'{having[0].where}; add it, or write "answers": null where they are unknown'
        )


def own_question(
    record: Record, name: str, *, split: str, task: str | None = None, image: str | None = None
) -> Question:
    """One line as a question, of an image by its ``name`` or, where it has been found, its path.

    ``task`` is that of lines that name none. Raises InputError as ``read_own``.
    """
    unknown = sorted(set(record.fields) - OWN_KEYS)
    if unknown:
        raise InputError(
            f"{record.where}: unknown key '{unknown[0]}' (known: {', '.join(sorted(OWN_KEYS))})"
        )
    text = " ".join(text_field(record, "question").split())
    refuse_placeholder(text, where=f"{record.where}: key 'question'")
    answers = _answers(record)
    task = _task(record, task, answers)
    reference = majority_answer(answers) if answers else None
    if task == EXISTENCE and reference is not None:
        parsed = parse_pope_strict(reference)
        if parsed is None:
            raise InputError(f"{record.where}: task existence needs yes or no as its answers")
        reference = parsed
    named = record.fields.get("question_id") is not None
    digest = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
    return Question(
        dataset="own",
        split=split,
        task=task,
        question_id=id_field(record, "question_id") if named else digest[:16],
        image=image or name,
        question=text,
        answers=answers,
        reference=reference,
        group=id_field(record, "group") if record.fields.get("group") is not None else None,
    )


def _answers(record: Record) -> list[str]:
    given = record.fields.get("answers")
    if given is None or isinstance(given, str):
        return [] if given is None else [text_field(record, "answers")]
    answers = answers_field(record, "answers")
    if not answers or not all(answer.strip() for answer in answers):
        raise InputError(f"{record.where}: key 'answers' needs at least one answer, none empty")
    return answers


def _task(record: Record, default_task: str | None, answers: list[str]) -> str:
    if record.fields.get("task") is not None:
        task = text_field(record, "task").strip()
        if task not in OWN_TASKS:
            raise InputError(
                f"{record.where}: key 'task' is {task!r}; expected one of {', '.join(OWN_TASKS)}"
            )
        return task
    if not answers:
        return default_task or OPEN
    if default_task not in (None, EXISTENCE):
        return default_task
    yes_no = all(normalise_vqa(answer) in YES_NO for answer in answers)
    return EXISTENCE if yes_no else OPEN


def _read(
    places: DatasetPlaces, images: "ImageIndex", splits: Mapping[str, str]
) -> dict[str, Reading]:
    """One file for all splits: each gets the questions of its task.

    Lines that name no task have the split's where it is the study's only one of own data.
    """
    path = places.path("questions")
    alone = len(splits) == 1
    found = {}
    for split, task in splits.items():
        reading = read_own(path, images, split=split, task=task if alone else None)
        wanted = (question for question in reading.questions if question.task == task)
        found[split] = reading.keep(wanted, f"task other than {task}")
        if reading.questions and not found[split].questions:
            raise InputError(
                f"{path}: no usable line asks for {task} ({len(reading.questions)} ask for "
                f'something else); write "task": "{task}" into the lines that do'
            )
    return found


DATASET = Dataset(
    name="own",
    order=90,
    tasks=OWN_TASKS,
    files={"questions": "questions.jsonl"},
    read=_read,
    splits_share_questions=True,
)

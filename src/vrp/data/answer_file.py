"""Answer files that anyone made: which record answers which question, and where its text is."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from vrp.data.datasets.pope import POPE_SPLITS
from vrp.data.json_input import Record, id_field, keys_shown, read_records
from vrp.errors import InputError

ANSWER_KEYS = (
    "answer", "text", "response", "prediction", "pred", "output", "model_answer", "generated_text",
)  # fmt: skip
"""Under which an answer file may hold the free text, where the reader is not told."""
SPLIT_KEYS = ("split", "category")
"""Under which the rows of one answer file to several POPE splits name theirs."""
_COCO_ID = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d+)")


class Asked(NamedTuple):
    """A question as far as an answer's row may repeat it."""

    question_id: str
    text: str
    image: str
    """File name, or image id."""


def records_of_splits(splits: Sequence[str], answers: Sequence[Path]) -> dict[str, list[Record]]:
    """Return split → the records that answer it.

    Raises:
        InputError: a number of files that does not fit, or rows of another split.
    """
    if len(answers) == len(splits):
        records = {s: read_records(path) for s, path in zip(splits, answers, strict=True)}
        for split, of_split in records.items():
            _refuse_other_split(of_split, split)
        return records
    if len(answers) > 1:
        raise InputError(
            f"{len(answers)} answer files for {len(splits)} question files; give one for each, in "
            "the same order, or one for all"
        )
    found: dict[str, list[Record]] = {split: [] for split in splits}
    for record in read_records(answers[0]):
        found[_split_of(record, splits)].append(record)
    return found


def _refuse_other_split(records: Sequence[Record], split: str) -> None:
    """Raise InputError where rows say that they answer another split than their question file's.

    Only POPE's own names count: a category may be anything else in other people's files.
    """
    known = {name for name in POPE_SPLITS if name in split}
    for record in records:
        for key in SPLIT_KEYS:
            said = record.fields.get(key)
            if known and said in POPE_SPLITS and said not in known:
                raise InputError(
                    f"{record.where}: key '{key}' is {said!r}, but the questions are of the split "
                    f"{split}; give the question file that was answered"
                )


def _split_of(record: Record, splits: Sequence[str]) -> str:
    key = next((key for key in SPLIT_KEYS if key in record.fields), None)
    if key is None:
        raise InputError(
            f"{record.where}: one answer file for {len(splits)} splits, and no key "
            f"'{SPLIT_KEYS[0]}' or '{SPLIT_KEYS[1]}' says which; add it or give a file for each"
        )
    split = record.fields[key]
    if split not in splits:
        raise InputError(
            f"{record.where}: key '{key}' is {split!r}; expected one of {', '.join(splits)}"
        )
    return str(split)


def given_answers(
    path: Path,
    records: Sequence[Record],
    questions: Sequence[Asked],
    answer_key: str | None,
    *,
    unannotated: Collection[str] = (),
) -> dict[str, str]:
    """Return the free text that the records give to each question: question_id → text.

    Args:
        path: the answer file, for messages.
        records: its records, or those of one split.
        questions: what was asked, in the question file's order.
        answer_key: where the text is; None: the one of ``ANSWER_KEYS`` that is there.
        unannotated: ids of questions that cannot be scored, for messages.

    Raises:
        InputError: as `score_pope_files`.
    """
    if not records:
        raise InputError(f"{path}: no answers to one of the splits; give a file for each")
    key = answer_key or _answer_key(records[0])
    record_of = _record_of(path, records, questions)
    asked = {question.question_id: question for question in questions}
    given = {question_id: _text(record, key) for question_id, record in record_of.items()}
    _refuse_mismatch(path, list(asked), record_of, unannotated)
    for question_id, record in record_of.items():
        if answer_key is None:
            _refuse_the_question(record, key, asked[question_id])
        _refuse_other_question(record, key, asked[question_id])
    return given


def _record_of(
    path: Path, records: Sequence[Record], questions: Sequence[Asked]
) -> dict[str, Record]:
    """question_id → its record; by order where no record names any."""
    if not any("question_id" in record.fields for record in records):
        if len(records) != len(questions):
            raise InputError(
                f"{path}: {len(records)} answers without question_id for {len(questions)} "
                "questions; add a question_id to each"
            )
        return {
            question.question_id: record
            for question, record in zip(questions, records, strict=True)
        }
    found: dict[str, Record] = {}
    for record in records:
        question_id = id_field(record, "question_id")
        if question_id in found:
            raise InputError(
                f"{record.where}: question_id {question_id} was answered before "
                f"({found[question_id].where}); keep one answer"
            )
        found[question_id] = record
    return found


def _refuse_the_question(record: Record, key: str, asked: Asked) -> None:
    """`text` holds the answer in many files, and the question in POPE's own.

    Raises InputError where it holds the question, or where the row looks like one of POPE's.
    """
    copied = [name for name in ("image", "label") if name in record.fields]
    text = record.fields.get(key)
    repeats = isinstance(text, str) and _plain(text) == _plain(asked.text)
    if key == "text" and (copied or repeats):
        why = "is the question's" if repeats else f"may be the question's: '{copied[0]}' is there"
        raise InputError(
            f"{record.where}: key 'text' {why} (found: {keys_shown(record)}); "
            "name the key that holds the answer with --answer-key"
        )


def _refuse_other_question(record: Record, key: str, asked: Asked) -> None:
    """Raise InputError where the row repeats another question or image than the one of its id."""
    said = record.fields.get("question")
    # Prompts go around questions: a row may hold both.
    if key != "question" and isinstance(said, str) and _plain(asked.text) not in _plain(said):
        _refuse_other(record, "question", said, asked.text, asked.question_id)
    image = record.fields.get("image")
    if key != "image" and isinstance(image, str) and _image_name(image) != _image_name(asked.image):
        _refuse_other(record, "image", image, asked.image, asked.question_id)


def _refuse_other(record: Record, key: str, said: str, asked: str, question_id: str) -> NoReturn:
    shown = said if len(said) <= 60 else said[:59] + "…"
    raise InputError(
        f"{record.where}: key '{key}' is {shown!r}, but question_id {question_id} of the questions "
        f"has {asked!r}; give the question file that was answered"
    )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(" ?.!")


def _image_name(image: str) -> str:
    """What two names of one image share: the COCO id, or the file name without its suffix."""
    stem = PurePosixPath(image).stem
    coco = _COCO_ID.fullmatch(stem)
    return str(int(coco[1])) if coco else stem


def _refuse_mismatch(
    path: Path,
    question_ids: Sequence[str],
    record_of: Mapping[str, Record],
    unannotated: Collection[str],
) -> None:
    """Raise InputError unless answers and questions are about the same ids."""
    asked = set(question_ids)
    foreign = next((name for name in record_of if name not in asked), None)
    if foreign is not None and foreign in unannotated:
        raise InputError(
            f"{record_of[foreign].where}: question_id {foreign} is among the questions, but has no "
            "annotation; give the annotations of all that was answered, or cut the answers"
        )
    if foreign is not None:
        raise InputError(
            f"{record_of[foreign].where}: question_id {foreign} is not among the questions; "
            "give the question file that was answered"
        )
    missing = [name for name in question_ids if name not in record_of]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} questions have no answer, the first is question_id "
            f"{missing[0]}; answer all of them or cut the question file"
        )


def _answer_key(record: Record) -> str:
    """The one key of the record that may hold the text."""
    found = [key for key in ANSWER_KEYS if key in record.fields]
    if not found:
        raise InputError(
            f"{record.where}: none of the keys {', '.join(ANSWER_KEYS)} "
            f"(found: {keys_shown(record)}); "
            "name the one that holds the answer with --answer-key"
        )
    if len(found) > 1:
        raise InputError(
            f"{record.where}: keys {' and '.join(repr(key) for key in found)} may both hold the "
            "answer; name the right one with --answer-key"
        )
    return found[0]


def _text(record: Record, key: str) -> str:
    if key not in record.fields:
        raise InputError(
            f"{record.where}: key '{key}' is missing (found: {keys_shown(record)}); expected to "
            "hold the answer"
        )
    value = record.fields[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{record.where}: key '{key}' is not text; give the answer as a string")
    return str(value)

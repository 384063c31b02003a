"""POPE (Polling-based Object Probing Evaluation): is there such an object in the photograph?"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.data.dataset import COCO_VAL2014, Archive, Dataset, HubColumns, OfficialFile, Row
from vrp.data.hub_columns import choice_column, id_column, text_column
from vrp.data.item import EXISTENCE, POPE, YES_NO, Reading, question_id_order
from vrp.data.json_input import Record, id_field, read_records, text_field
from vrp.data.question_files import AnnotatedQuestion, reading_of
from vrp.errors import InputError

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex

POPE_SPLITS = ("random", "popular", "adversarial")
SPLIT_KEYS = ("category", "split")
"""Under which rows may name their split."""


def named_split(record: Record) -> str | None:
    """The split that a row names as its own; None: it names none of POPE's."""
    said = (str(record.fields.get(key)).strip().lower() for key in SPLIT_KEYS)
    return next((split for split in said if split in POPE_SPLITS), None)


def of_other_split(records: Iterable[Record], split: str) -> tuple[str, str] | None:
    """The first row that names another split than its file is for, as (where, that split)."""
    named = ((record.where, named_split(record)) for record in records)
    return next(((where, other) for where, other in named if other not in (None, split)), None)


def pope_rows(records: Iterable[Record]) -> list[AnnotatedQuestion]:
    """Every row of a POPE file, duplicates included; each has one answer, its label.

    Raises InputError naming file and line for a missing key, a label other than yes or no, or a
    question id used for two different questions.
    """
    rows = [_row(record) for record in records]
    by_id: dict[str, AnnotatedQuestion] = {}
    for row in rows:
        first = by_id.setdefault(row.question_id, row)
        if first[2:] != row[2:]:
            raise InputError(
                f"{row.where}: question_id {row.question_id} was used for another question "
                f"({first.where}); give each question an id of its own"
            )
    return rows


def read_pope(files: Mapping[str, Path], images: "ImageIndex") -> dict[str, Reading]:
    """Read POPE splits: split → what can be asked of it.

    POPE's splits share their yes-questions: each split keeps those of its own file, whatever other
    splits are read. A (image, question) pair that one file repeats is kept under its smallest
    question id, whatever the order of lines. Questions without their image are dropped and counted.
    Raises InputError as ``pope_rows``, where a row names another split than its file's, and where
    two rows, of any of the files, label one pair differently.
    """
    readings = {}
    labelled: dict[tuple[str, str], AnnotatedQuestion] = {}
    for split in sorted(files):
        records = read_records(files[split])
        if other := of_other_split(records, split):
            raise InputError(
                f"{other[0]}: names the split {other[1]}, but the file is for {split}; give the "
                f"file of {split}, or correct its rows"
            )
        rows = pope_rows(records)
        for row in sorted(rows, key=lambda row: question_id_order(row.question_id)):
            first = labelled.setdefault((images.find(row.image) or row.image, row.question), row)
            if first.answers != row.answers:
                raise InputError(
                    f"{row.where}: labelled {row.answers[0]}, but {first.answers[0]} at "
                    f"{first.where} for the same image and question; correct one of them"
                )
        readings[split] = reading_of(
            rows, images, dataset=POPE, split=split, task=EXISTENCE, by_name=True
        )
    return readings


def _row(record: Record) -> AnnotatedQuestion:
    label = text_field(record, "label").strip().lower()
    if label not in YES_NO:
        raise InputError(f"{record.where}: key 'label' is {label!r}; expected yes or no")
    return AnnotatedQuestion(
        where=record.where,
        question_id=id_field(record, "question_id"),
        image=text_field(record, "image").strip(),
        question=" ".join(text_field(record, "text").split()),
        answers=[label],
    )


def _official_row(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    split = choice_column(row, "category", where, "POPE", POPE_SPLITS)
    label = choice_column(row, "answer", where, "POPE", YES_NO)
    return {
        split: {
            "question_id": id_column(row, "question_id", where),
            "image": image,
            "text": text_column(row, "question", where),
            "label": label,
        }
    }


# Pinned, since the random split once had 90 questions fewer.
_COMMIT = "08d957b917e5a378a2f99d35b6293c536a66298b"
_URL = f"https://raw.githubusercontent.com/AoiDragon/POPE/{_COMMIT}/output/coco"
DATASET = Dataset(
    name=POPE,
    order=10,
    tasks=(EXISTENCE,),
    splits=POPE_SPLITS,
    files={"questions": "pope/coco_pope_{split}.json"},
    read=lambda places, images, splits: read_pope(
        {split: places.path("questions", split) for split in splits}, images
    ),
    archives=tuple(Archive(f"{_URL}/coco_pope_{split}.json", "pope") for split in POPE_SPLITS),
    # As in lmms-lab/POPE, all three splits in one.
    hub=HubColumns(
        required=("question_id", "question", "answer", "category", "image"),
        image_ids=("image_source", "image_id"),
        to_official=_official_row,
        official_file=lambda split: OfficialFile("questions", split),
    ),
    scene_images="n_pope_images",
    image_set=COCO_VAL2014,
    n_images=500,
)

"""TextVQA: what is written in the photograph, answered by ten people."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.data.dataset import Archive, Dataset, HubColumns, ImageSet, OfficialFile, Row
from vrp.data.hub_columns import answers_column, choice_column, id_column, text_column
from vrp.data.item import TEXT, Reading
from vrp.data.json_input import Record, answers_field, id_field, read_json, text_field
from vrp.data.question_files import (
    AnnotatedQuestion,
    reading_of,
    records_under,
    refuse_reused_ids,
)
from vrp.errors import InputError

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex

N_ANNOTATORS = 10
"""Answers to every question; the published evaluation refuses any other number."""

_SPLITS = ("train", "val", "test")
# Columns that are kept where they are there; no reader needs them.
_EXTRA = (
    "image_classes", "flickr_original_url", "flickr_300k_url", "image_width", "image_height",
    "question_tokens",
)  # fmt: skip


def read_textvqa(path: Path, images: "ImageIndex", *, split: str) -> Reading:
    """Read an official TextVQA file (``data``: question_id, image_id, question, answers).

    Of splits whose answers are held back, every question is dropped and counted. Raises
    InputError naming file, row and key for what is malformed or missing, a question id used twice,
    and answers of more or fewer than ``N_ANNOTATORS`` annotators.
    """
    rows = read_textvqa_rows(path)
    return reading_of(rows, images, dataset="textvqa", split=split, task=TEXT)


def read_textvqa_rows(path: Path) -> list[AnnotatedQuestion]:
    """Every question of an official TextVQA file. Raises InputError as ``read_textvqa``."""
    rows = [_question(record) for record in records_under(read_json(path), path, "data")]
    refuse_reused_ids((row.question_id, row.where) for row in rows)
    return rows


def _question(record: Record) -> AnnotatedQuestion:
    held_back = record.fields.get("set_name") == "test" and "answers" not in record.fields
    answers = [] if held_back else answers_field(record, "answers")
    if len(answers) not in (0, N_ANNOTATORS):
        raise InputError(
            f"{record.where}: key 'answers' holds {len(answers)} answers; TextVQA has "
            f"{N_ANNOTATORS} to every question (give other data as `dataset: own`)"
        )
    return AnnotatedQuestion(
        where=record.where,
        question_id=id_field(record, "question_id"),
        image=id_field(record, "image_id"),
        question=text_field(record, "question"),
        answers=answers,
    )


def _official_row(row: Row, image: str, where: str) -> dict[str, dict[str, Any]]:
    name = choice_column(row, "set_name", where, "TextVQA", _SPLITS)
    extra = {column: row[column] for column in _EXTRA if row.get(column) is not None}
    return {
        name: {
            "question": text_column(row, "question", where),
            "image_id": image.rpartition(".")[0],
            **extra,
            "answers": [answer["answer"] for answer in answers_column(row, "answers", where)],
            "question_id": id_column(row, "question_id", where),
            "set_name": name,
        }
    }


def _official_file(split: str) -> OfficialFile:
    header = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
    return OfficialFile("questions", split, "data", header)


_URL = "https://dl.fbaipublicfiles.com/textvqa"

DATASET = Dataset(
    name="textvqa",
    order=30,
    tasks=(TEXT,),
    splits=_SPLITS,
    files={"questions": "textvqa/TextVQA_0.5.1_{split}.json"},
    # Its archive holds the images of train and val in one folder.
    images="train_images",
    read=lambda places, images, splits: {
        split: read_textvqa(places.path("questions", split), images, split=split)
        for split in splits
    },
    archives=(Archive(f"{_URL}/data/TextVQA_0.5.1_val.json", "textvqa"),),
    # As in lmms-lab/textvqa.
    hub=HubColumns(
        required=("question_id", "question", "image_id", "answers", "set_name", "image"),
        image_ids=("image_id",),
        to_official=_official_row,
        official_file=_official_file,
    ),
    image_set=ImageSet(
        usual_size=(1024, 768),
        largest_size=(1024, 1024),
        archive=Archive(f"{_URL}/images/train_val_images.zip", "."),
        official_bytes=7_200_000_000,
        archive_bytes=7_070_000_000,
        hub_bytes=7_500_000_000,
    ),
    # Those of val.
    n_images=3_166,
    question_bytes=200_000_000,
)

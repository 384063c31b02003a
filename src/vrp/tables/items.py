"""`items.parquet`: the questions of the study."""

from pathlib import Path

import polars as pl

from vrp.tables.parquet_files import read_table
from vrp.tables.schema import TableSchema, column, optional, table, text, texts

ITEMS = table(
    "items",
    ("item_id",),
    column(
        "item_id",
        text,
        "dataset/split/question_id; stable across studies; of rows of several splits that are one "
        "question, a model is asked under the first alone",
    ),
    column("dataset", text, "pope, vqa, textvqa or own"),
    column("split", text, "split of the data set"),
    column("task", text, "existence, counting, spatial, open or text"),
    column("group", text, "SHA-256 of the image's bytes: the unit of folds and bootstraps"),
    column("image", text, "path of the image inside the data folder"),
    column("image_sha256", text, "SHA-256 of the image's bytes"),
    column("question_id", text, "id in the source file"),
    column("question", text, "the question as asked, without a prompt"),
    column("answers", texts, "annotators' answers; one label for POPE; none where not known"),
    optional(
        "reference",
        text,
        "the label, or the annotators' majority answer; null: not known",
    ),
)

_SAME_QUESTION = ("dataset", "task", "image", "question", "answers")
# Within a split all rows are different questions: readers drop what a file repeats.
_IN_FIRST_SPLIT = pl.col("split") == pl.col("split").first().over(_SAME_QUESTION)
DISTINGUISHED_BY = ("split", *_SAME_QUESTION)
"""Columns that tell whether rows of several splits are one question."""


def asked_items(items: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that a model is asked: a question that several splits have drawn, once.

    It is asked, and its answer stored, under its id in the first of these splits. Numbers over
    several splits thus count it once.
    """
    return items.filter(_IN_FIRST_SPLIT)


def asked_as(items: pl.DataFrame) -> pl.DataFrame:
    """Return every item's id beside the one under which a model is asked its question, `asked`."""
    first = pl.col("item_id").first().over(_SAME_QUESTION)
    own = pl.col("item_id")
    return items.select("item_id", asked=pl.when(_IN_FIRST_SPLIT).then(own).otherwise(first))


def read_asked_items(path: Path, schema: TableSchema = ITEMS) -> pl.DataFrame:
    """Read the rows that a model is asked.

    Args:
        path: the items table.
        schema: the table, or some of its columns (`TableSchema.only`).

    Raises:
        InputError: the table is missing or malformed.
    """
    wanted = ITEMS.only(*schema.columns.names, *DISTINGUISHED_BY)
    return asked_items(read_table(path, wanted)).select(schema.columns.names)

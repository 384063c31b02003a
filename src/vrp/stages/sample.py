"""Sample the study's items: exact counts, stratified, independent of the order of files."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.data.images import ImageIndex
from vrp.data.item import Item, Reading
from vrp.data.item_sampling import (
    SampleRow,
    drop_unreachable,
    first_few,
    sample_split,
    unite_groups,
)
from vrp.data.question_files import refuse_placeholder
from vrp.errors import InputError, unknown_name
from vrp.study.context import StageContext
from vrp.study.table_origins import rows_digest
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import write_table
from vrp.tables.sealed_json import write_sealed_json

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Read the question files and take exactly the items asked for.

    Raises:
        InputError: a file is missing or malformed, or a split has too few items.
    """
    seed, sample = context.study.seed, context.study.sample
    data_manifest = context.input_path("data")
    if not data_manifest.is_file():
        raise InputError(f"{data_manifest}: no such file; run `vrp fetch-data` first")
    readings, images = read_splits(context.study)
    items: list[Item] = []
    rows: list[SampleRow] = []
    for split in sample.splits:
        reading = readings[split.dataset, split.split]
        if get_dataset(split.dataset).splits_share_questions:
            reading = _without_taken(reading, items)
        inspect = images[split.dataset].inspect
        taken, row = sample_split(reading, split.count, seed, inspect=inspect)
        items.extend(taken)
        rows.append(row)
    as_rows = [asdict(item) for item in unite_groups(items)]
    columns = {name: [row[name] for row in as_rows] for name in ITEMS.columns.names}
    write_table(context.output_path("items"), ITEMS, columns, provenance=context.provenance)
    report = context.output_path("sampling")
    found = {
        "items": rows_digest(context.output_path("items")),
        "splits": [r._asdict() for r in rows],
    }
    write_sealed_json(report, found)
    for row in rows:
        _warn_missing_images(row, report)


def _warn_missing_images(row: SampleRow, report: Path) -> None:
    """Log which images are not there or cannot be used, where there are any."""
    kinds = {"not found": row.missing, "unreadable": row.unreadable, "elongated": row.elongated}
    for kind, images in kinds.items():
        if images:
            logger.warning(
                f"sample: {row.dataset} {row.split}: images {kind}, their questions left out and "
                f"the split filled from its others: {len(images)} ({first_few(images)}); all are "
                f"named in {report}"
            )


def read_splits(
    study: StudyConfig, datasets: Collection[str] | None = None
) -> tuple[dict[tuple[str, str], Reading], dict[str, ImageIndex]]:
    """Read the splits that a study names.

    Args:
        study: the configuration.
        datasets: only splits of these; None: all.

    Returns:
        (data set, split) → what can be asked and scored of it. Data set → its images.

    Raises:
        InputError: a file is missing or malformed, there is no such split, or a question holds an
            image's placeholder.
    """
    asked: dict[str, dict[str, str]] = {}
    for wanted in study.sample.splits:
        if datasets is None or wanted.dataset in datasets:
            asked.setdefault(wanted.dataset, {})[wanted.split] = wanted.task
    rule, threshold = study.scoring.vqa_rule, study.scoring.vqa_threshold
    index = cache(ImageIndex)  # a folder of several data sets is listed once
    readings: dict[tuple[str, str], Reading] = {}
    images: dict[str, ImageIndex] = {}
    for name, tasks in asked.items():
        dataset, places = get_dataset(name), study.data.places(name)
        for split in tasks:
            dataset.require_split(split, places)
        images[name] = index(places.folder, places.images)
        found = dataset.read(places, images[name], tasks)
        for split in tasks:
            if split not in found:
                raise InputError(f"sample.splits: {unknown_name(f'split of {name}', split, found)}")
            for question in found[split].questions:
                where = f"{name} {split}: the text of question_id {question.question_id}"
                refuse_placeholder(question.question, where=where)
            readings[name, split] = drop_unreachable(found[split], rule=rule, threshold=threshold)
    return readings, images


def _without_taken(reading: Reading, items: Sequence[Item]) -> Reading:
    """The questions but those that an earlier split of the data set has taken."""
    taken = {(item.image, item.question) for item in items if item.dataset == reading.dataset}
    left = (q for q in reading.questions if (q.image, q.question) not in taken)
    return reading.keep(left, "taken by an earlier split")

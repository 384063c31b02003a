"""Sample the study's items: exact counts, stratified, independent of the order of files."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.config.sample import SampleConfig
from vrp.data.datasets import get_dataset
from vrp.data.images import ImageIndex
from vrp.data.item import Item, Reading
from vrp.data.sampling import SampleRow, first_few, sample_split, unite_groups
from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.tables.files import write_table, write_text
from vrp.tables.items import ITEMS

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Read the question files and take exactly the items asked for.

    Raises:
        InputError: a file is missing or malformed, or a split has too few items.
    """
    seed, data, sample = context.study.seed, context.study.data, context.study.sample
    data_manifest = context.read("data")
    if not data_manifest.is_file():
        raise InputError(f"{data_manifest}: no such file; run `vrp fetch-data` first")
    readings, images = _read(data, sample)
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
    as_rows = [item.as_row() for item in unite_groups(items)]
    columns = {name: [row[name] for row in as_rows] for name in ITEMS.columns.names}
    write_table(context.write("items"), ITEMS, columns, provenance=context.provenance)
    report = context.write("sampling")
    write_text(report, json.dumps([row._asdict() for row in rows], indent=1) + "\n")
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


def _read(
    data: DataConfig, sample: SampleConfig
) -> tuple[dict[tuple[str, str], Reading], dict[str, ImageIndex]]:
    """Readings of all splits that the study names, and the images of their data sets."""
    asked: dict[str, dict[str, str]] = {}
    for split in sample.splits:
        asked.setdefault(split.dataset, {})[split.split] = split.task
    index = cache(ImageIndex)  # a folder of several data sets is listed once
    readings: dict[tuple[str, str], Reading] = {}
    images: dict[str, ImageIndex] = {}
    for dataset, tasks in asked.items():
        places = data.places(dataset)
        images[dataset] = index(places.folder, places.images)
        found = get_dataset(dataset).read(places, images[dataset], tasks)
        if unknown := [split for split in tasks if split not in found]:
            raise InputError(
                f"sample.splits: {dataset} has no split {unknown[0]!r}; "
                f"choose from {', '.join(found)}"
            )
        readings |= {(dataset, split): reading for split, reading in found.items()}
    return readings, images


def _without_taken(reading: Reading, items: Sequence[Item]) -> Reading:
    """The questions but those that an earlier split of the data set has taken."""
    taken = {(item.image, item.question) for item in items if item.dataset == reading.dataset}
    left = tuple(q for q in reading.questions if (q.image, q.question) not in taken)
    gone = len(reading.questions) - len(left)
    dropped = reading.dropped | ({"taken by an earlier split": gone} if gone else {})
    return replace(reading, questions=left, dropped=dropped)

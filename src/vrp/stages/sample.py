"""Sample the study's items: exact counts, stratified, independent of the order of files."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.config.sample import SampleConfig, SplitConfig
from vrp.data.images import ImageIndex
from vrp.data.item import Item, Reading
from vrp.data.own import read_own
from vrp.data.pope import read_pope
from vrp.data.sampling import SampleRow, first_few, sample_split, unite_groups
from vrp.data.vqa import read_textvqa, read_vqa
from vrp.errors import InputError
from vrp.tables.files import write_table, write_text
from vrp.tables.items import ITEMS


def run(
    *,
    seed: int,
    data: DataConfig,
    sample: SampleConfig,
    data_manifest: Path,
    output: Path,
    report: Path,
    provenance: Mapping[str, str],
) -> None:
    """Read the question files and take exactly the items asked for.

    Args:
        seed: the study's seed.
        data: where the files are.
        sample: splits and counts.
        data_manifest: written by `fetch_data`; its presence says that the data are whole.
        output: `items.parquet`.
        report: found, usable, dropped with reasons, and taken, for every split (JSON).
        provenance: written into the table.

    Raises:
        InputError: a file is missing or malformed, or a split has too few items.
    """
    if not data_manifest.is_file():
        raise InputError(f"{data_manifest}: no such file; run `vrp fetch-data` first")
    images = _Images(data)
    readings = _read(data, sample, images)
    items: list[Item] = []
    rows: list[SampleRow] = []
    for split in sample.splits:
        reading = readings[split.dataset, split.split]
        if split.dataset == "own":
            reading = _not_taken(reading, items)
        inspect = images.of(split.dataset).inspect
        taken, row = sample_split(reading, split.count, seed, inspect=inspect)
        items.extend(taken)
        rows.append(row)
    as_rows = [item.as_row() for item in unite_groups(items)]
    columns = {name: [row[name] for row in as_rows] for name in ITEMS.columns.names}
    write_table(output, ITEMS, columns, provenance=provenance)
    write_text(report, json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    for row in rows:
        _tell_left_out(row, report)


def _tell_left_out(row: SampleRow, report: Path) -> None:
    """Say on stderr which images are not there or cannot be decoded, where there are any."""
    for kind, images in (("not found", row.missing), ("unreadable", row.unreadable)):
        if images:
            print(
                f"sample: {row.dataset} {row.split}: images {kind}, their questions left out and "
                f"the split filled from its others: {len(images)} ({first_few(images)}); all are "
                f"named in {report}",
                file=sys.stderr,
            )


class _Images:
    """The images of each data set; a folder is listed when it is first asked for."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._by_folder: dict[str, ImageIndex] = {}

    def of(self, dataset: str) -> ImageIndex:
        """Raises InputError where there is no such folder."""
        folder = self._data.image_folder(dataset)
        if folder not in self._by_folder:
            self._by_folder[folder] = ImageIndex(Path(self._data.folder), folder)
        return self._by_folder[folder]


def _read(
    data: DataConfig, sample: SampleConfig, images: _Images
) -> dict[tuple[str, str], Reading]:
    """Readings of all splits that the study names, by data set and split."""
    folder = Path(data.folder)
    n_own = sum(split.dataset == "own" for split in sample.splits)
    readings: dict[tuple[str, str], Reading] = {}
    pope = [split.split for split in sample.splits if split.dataset == "pope"]
    if pope:
        files = {split: folder / data.pope_questions.format(split=split) for split in pope}
        for name, reading in read_pope(files, images.of("pope")).items():
            readings["pope", name] = reading
    if any(split.dataset == "vqa" for split in sample.splits):
        paths = folder / data.vqa_questions, folder / data.vqa_annotations
        for name, reading in read_vqa(*paths, images.of("vqa")).items():
            readings["vqa", name] = reading
    for split in sample.splits:
        key = split.dataset, split.split
        if split.dataset == "textvqa":
            path = folder / data.textvqa_questions.format(split=split.split)
            readings[key] = read_textvqa(path, images.of("textvqa"), split=split.split)
        elif split.dataset == "own":
            path = folder / data.own_questions
            readings[key] = _own(path, images.of("own"), split, alone=n_own == 1)
        elif key not in readings:
            raise InputError(
                f"sample.splits: {split.dataset} has no split {split.split!r}; "
                f"choose from {', '.join(s for d, s in readings if d == split.dataset)}"
            )
    return readings


def _own(path: Path, images: ImageIndex, split: SplitConfig, *, alone: bool) -> Reading:
    """Own questions of the split's task; those of other tasks are accounted for as dropped.

    Lines that name no task have the split's where it is the study's only one of own data.
    """
    reading = read_own(path, images, split=split.split, task=split.task if alone else None)
    wanted = tuple(q for q in reading.questions if q.task == split.task)
    others = len(reading.questions) - len(wanted)
    if others and not wanted:
        raise InputError(
            f"{path}: no usable line asks for {split.task} ({others} ask for something else); "
            f'write "task": "{split.task}" into the lines that do'
        )
    dropped = reading.dropped | ({f"task other than {split.task}": others} if others else {})
    return replace(reading, questions=wanted, dropped=dropped)


def _not_taken(reading: Reading, items: Sequence[Item]) -> Reading:
    """Own questions but those that an earlier split of own data has taken: one file holds all."""
    taken = {(item.image, item.question) for item in items if item.dataset == "own"}
    left = tuple(q for q in reading.questions if (q.image, q.question) not in taken)
    gone = len(reading.questions) - len(left)
    dropped = reading.dropped | ({"taken by an earlier split": gone} if gone else {})
    return replace(reading, questions=left, dropped=dropped)

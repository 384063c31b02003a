"""Writes the explorer of a study: its files first, then the page that loads them."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from vrp.explorer.answers import ModelAnswers, answers_chunk, read_answers
from vrp.explorer.attention import read_attention, shown_masking
from vrp.explorer.chunks import Chunk, write_chunk
from vrp.explorer.details import BlockCollector, read_details
from vrp.explorer.items import items_chunk, ordered_items, pictures_chunk, read_picture
from vrp.explorer.page import PageFacts, render_explorer
from vrp.study.explorer_files import ExplorerFiles, cut_points
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.atomic_files import atomic_write
from vrp.tables.attention import ATTENTION
from vrp.tables.boxes import BOXES
from vrp.tables.items import ITEMS
from vrp.tables.seal import read_provenance


class ExplorerPlaces(NamedTuple):
    """Where an explorer is written, and what it is made with."""

    page: Path
    """The page."""
    folder: Path
    """Folder of its files."""
    files: ExplorerFiles
    """Their names."""
    images: Path
    """The data folder."""
    pixels: int
    """Longer side of the images."""


def write_explorer(
    results: StudyResults, study: str, places: ExplorerPlaces, *, vqa_threshold: float
) -> None:
    """Write the explorer; all of its files appear once the last one is written, or none does.

    Args:
        results: tables of the study; those that were not made are shown as not run.
        study: its name.
        places: where to.
        vqa_threshold: VQA accuracy at which an answer is right.

    Raises:
        InputError: a table is broken.
    """
    with ExitStack() as appearing:
        # Files get their names in the opposite order: the page comes last.
        page = appearing.enter_context(atomic_write(places.page))
        written = _Written(places, appearing)
        items = ordered_items(results.table(ITEMS))
        windows = {model.name: _image_policy(model) for model in results.models}
        boxes = {row["item_id"]: row for row in results.table(BOXES).iter_rows(named=True)}
        _write_items(items, boxes, sorted(set(windows.values())), written)
        answers = [_write_model(model, results, items, written) for model in results.models]
        facts = PageFacts(
            study=study,
            items=items,
            answers=answers,
            conditions=results.conditions,
            masking=shown_masking(results.conditions),
            policies=windows,
            files=places.files,
            folder=Path(os.path.relpath(places.folder, places.page.parent)).as_posix(),
            stamps=written.stamps,
            vqa_threshold=vqa_threshold,
        )
        page.write_text(render_explorer(facts), encoding="utf-8")


class _Written:
    """The files written so far, with their stamps."""

    def __init__(self, places: ExplorerPlaces, appearing: ExitStack) -> None:
        self.places = places
        self.stamps: dict[str, str] = {}
        self._appearing = appearing

    def add(self, name: str, chunk: Chunk) -> None:
        part = self._appearing.enter_context(atomic_write(self.places.folder / name))
        self.stamps[name] = write_chunk(part, name, chunk)


def _image_policy(model: ModelResults) -> str:
    paths = model.paths(ATTENTION)
    return read_provenance(paths[0]).get("image_policy", "") if paths else ""


def _write_items(
    items: pl.DataFrame,
    boxes: Mapping[str, Mapping[str, Any]],
    policies: list[str],
    written: _Written,
) -> None:
    files, places = written.places.files, written.places
    cuts = cut_points(len(items), len(files.items))
    for name, start, end in zip(files.items, cuts, cuts[1:], strict=False):
        written.add(name, items_chunk(items[start:end], boxes))
    first = items.unique("picture", keep="first", maintain_order=True)
    cuts = cut_points(len(first), len(files.images))
    for name, start, end in zip(files.images, cuts, cuts[1:], strict=False):
        pictures = [
            read_picture(places.images, image, digest, pixels=places.pixels)
            for image, digest in first[start:end].select("image", "image_sha256").iter_rows()
        ]
        written.add(name, pictures_chunk(pictures, policies))


def _write_model(
    model: ModelResults, results: StudyResults, items: pl.DataFrame, written: _Written
) -> ModelAnswers:
    files, masking = written.places.files, shown_masking(results.conditions)
    answers = read_answers(model, items, masking)
    names = files.answers[model.name]
    cuts = cut_points(len(items), len(names))
    for name, start, end in zip(names, cuts, cuts[1:], strict=False):
        written.add(name, answers_chunk(answers, start, end))
    names, item_ids = files.details[model.name], items["item_id"].to_list()
    cuts = cut_points(len(items), len(names))
    details = read_details(model)
    image_of = dict(items.select("item_id", "group").iter_rows())
    attention = read_attention(model.paths(ATTENTION), image_of, masking)
    for block, found in BlockCollector(item_ids, cuts).blocks(attention):
        written.add(names[block], details.chunk(item_ids[cuts[block] : cuts[block + 1]], found))
    return answers

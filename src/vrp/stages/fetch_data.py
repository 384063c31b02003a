"""Put images and question files into the data folder and list them in a manifest."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.data.archives import archives_of, download_official, downloaded_digests
from vrp.data.dataset import Dataset
from vrp.data.datasets import dataset_names, load_datasets
from vrp.data.hub_sets import fetch_hub_set
from vrp.data.images import file_sha256
from vrp.data.scenes.official import write_scene_dataset
from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.tables.files import write_text

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Draw, download or check the data; write the manifest last.

    Raises:
        InputError: a file cannot be had, or the folder holds none of the expected files or no
            image.
    """
    data, output = context.study.data, context.write("data")
    write_text(output, json.dumps(fetch(data), indent=1) + "\n")


def fetch(data: DataConfig) -> dict[str, object]:
    """Do what `run` does, but for writing the manifest; return it.

    Raises:
        InputError: as `run`.
    """
    folder = Path(data.folder)
    repositories: dict[str, str] = {}
    if data.origin == "scenes":
        write_scene_dataset(
            folder,
            namespace=data.scenes.namespace,
            n_pope_images=data.scenes.n_pope_images,
            n_vqa_images=data.scenes.n_vqa_images,
        )
    elif data.origin == "official":
        archives = archives_of(load_datasets(data.official))
        download_official(folder, archives)
    elif data.origin == "hub":
        repositories = _fetch_from_hub(data)
    files = question_files(data)
    if not files:
        expected = ", ".join(data.question_files(_all_splits()))
        raise InputError(
            f"{folder}: has none of the question files named in the config's data section "
            f"({expected}); put them there or set data.origin"
        )
    _require_images(data, files)
    manifest = _manifest(data, files)
    if repositories:
        manifest["repositories"] = repositories
    if data.origin == "official":
        manifest["archives"] = downloaded_digests(folder, archives)
    return manifest


def question_files(data: DataConfig) -> list[str]:
    """The question files that are there, relative to the data folder."""
    named = data.question_files(_all_splits())
    return [name for name in named if (Path(data.folder) / name).is_file()]


def _all_splits(datasets: Sequence[Dataset] | None = None) -> list[tuple[str, str]]:
    """(data set, split) of these data sets, or of all; of one without splits once, unnamed."""
    known = load_datasets() if datasets is None else datasets
    return [(dataset.name, split) for dataset in known for split in dataset.splits or ("",)]


def _fetch_from_hub(data: DataConfig) -> dict[str, str]:
    """Data set → repository@commit."""
    fetched = {}
    for dataset in load_datasets(data.hub):
        if dataset.hub is not None:
            source, places = data.hub[dataset.name], data.places(dataset.name)
            fetched[dataset.name] = fetch_hub_set(dataset.name, source, places, dataset.hub)
    return fetched


def _require_images(data: DataConfig, files: list[str]) -> None:
    """Say which question files are without images; refuse where all are.

    A file of a data set that the study does not ask about may well be there without any.
    """
    folder = Path(data.folder)
    without: dict[str, list[str]] = {}
    keys: dict[str, str] = {}
    for dataset in load_datasets():
        place = data.places(dataset.name).images
        keys.setdefault(
            place, "data.images" if place == data.images else f"data.files.{dataset.name}.images"
        )
        named = data.question_files(_all_splits([dataset]))
        there = [name for name in named if name in files]
        if there and not any(path.is_file() for path in (folder / place).rglob("*")):
            without.setdefault(place, []).extend(there)
    lines = [
        f"{folder / place}: holds no images for {', '.join(names)}"
        for place, names in without.items()
    ]
    if lines and sorted(name for names in without.values() for name in names) == sorted(files):
        key = "data.images" if data.images in without else keys[next(iter(without))]
        raise InputError(f"{'; '.join(lines)}; put them there or set {key}")
    for line in lines:
        logger.warning(line)


def _manifest(data: DataConfig, files: list[str]) -> dict[str, object]:
    folder = Path(data.folder)
    places = data.image_folders(dataset_names())
    found = {path for place in places for path in (folder / place).rglob("*")}
    images = sorted(path for path in found if path.is_file())
    # Names and sizes, not contents: a COCO folder holds 40,000 files, and every image that an
    # item uses is digested by `sample` anyway.
    listing = "\n".join(f"{path.relative_to(folder)}\t{path.stat().st_size}" for path in images)
    return {
        "origin": data.origin,
        "files": {name: file_sha256(folder / name) for name in files},
        "n_images": len(images),
        "images": hashlib.sha256(listing.encode()).hexdigest(),
    }

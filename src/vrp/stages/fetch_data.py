"""Put images and question files into the data folder and list them in a manifest."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.data.archives import archives_of, download_official, downloaded_digests
from vrp.data.datasets import dataset_names, load_datasets
from vrp.data.file_digest import file_sha256
from vrp.data.hub_sets import fetch_hub_set
from vrp.data.scenes.official import write_scene_dataset
from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.study.provenance import STATED, stated
from vrp.tables.sealed_json import write_sealed_json

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Draw, download or check the data; write the manifest last.

    Raises:
        InputError: a file cannot be had, or the folder holds none of the expected files or no
            image.
    """
    data, output = context.study.data, context.output_path("data")
    write_sealed_json(output, {**fetch(data), STATED: stated(context.provenance)})


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
    named = _question_files(data)
    there = {
        dataset: [name for name in names if (folder / name).is_file()]
        for dataset, names in named.items()
    }
    files = [name for names in there.values() for name in names]
    if not files:
        expected = ", ".join(name for names in named.values() for name in names)
        raise InputError(
            f"{folder}: has none of the question files named in the config's data section "
            f"({expected}); put them there or set data.origin"
        )
    _require_images(data, there)
    manifest = _manifest(data, files)
    if repositories:
        manifest["repositories"] = repositories
    if data.origin == "official":
        manifest["archives"] = downloaded_digests(folder, archives)
    return manifest


def _fetch_from_hub(data: DataConfig) -> dict[str, str]:
    """Data set → repository@commit."""
    fetched = {}
    for dataset in load_datasets(data.hub):
        if dataset.hub is not None:
            source, places = data.hub[dataset.name], data.places(dataset.name)
            fetched[dataset.name] = fetch_hub_set(dataset.name, source, places, dataset.hub)
    return fetched


def _question_files(data: DataConfig) -> dict[str, list[str]]:
    """Data set → the files of all its splits, relative to the data folder."""
    return {
        dataset.name: data.question_files(
            (dataset.name, split) for split in dataset.splits or ("",)
        )
        for dataset in load_datasets()
    }


def _require_images(data: DataConfig, there: Mapping[str, list[str]]) -> None:
    """Log which question files are without images; refuse where all are.

    A file of a data set that the study does not ask about may well be there without any.

    Args:
        data: the `data` section.
        there: data set → its question files that are there.
    """
    without: dict[str, list[str]] = {}
    asked = {dataset: names for dataset, names in there.items() if names}
    for dataset, names in asked.items():
        place = data.places(dataset).images
        if not any(path.is_file() for path in Path(data.folder, place).rglob("*")):
            without.setdefault(place, []).extend(names)
    lines = [
        f"{Path(data.folder, place)}: holds no images for {', '.join(names)}"
        for place, names in without.items()
    ]
    if sum(map(len, without.values())) == sum(map(len, asked.values())):
        key = "data.images" if data.images in without else f"data.files.{next(iter(asked))}.images"
        raise InputError(f"{'; '.join(lines)}; put them there or set {key}")
    for line in lines:
        logger.warning(line)


def _manifest(data: DataConfig, files: list[str]) -> dict[str, object]:
    folder = Path(data.folder)
    places = data.image_folders(dataset_names())
    # By names within the data folder: of an image folder elsewhere, its absolute path.
    found = {
        place / path.relative_to(folder / place): path
        for place in map(Path, places)
        for path in (folder / place).rglob("*")
    }
    images = {name: found[name] for name in sorted(found) if found[name].is_file()}
    # Names and sizes, not contents: a COCO folder holds 40,000 files, and every image that an
    # item uses is digested by `sample` anyway.
    listing = "\n".join(f"{name}\t{path.stat().st_size}" for name, path in images.items())
    return {
        "origin": data.origin,
        "files": {name: file_sha256(folder / name) for name in files},
        "n_images": len(images),
        "images": hashlib.sha256(listing.encode()).hexdigest(),
    }

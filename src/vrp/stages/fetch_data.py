"""Put images and question files into the data folder and list them in a manifest."""

import hashlib
import json
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.data.archives import archives_of, download_official, downloaded_digests
from vrp.data.hub_sets import fetch_hub_sets
from vrp.data.images import file_sha256
from vrp.data.scenes.official import write_scene_dataset
from vrp.errors import InputError
from vrp.hub import tell
from vrp.tables.files import write_text

_SPLITS = (
    *(("pope", split) for split in ("random", "popular", "adversarial")),
    ("vqa", ""),
    *(("textvqa", split) for split in ("train", "val", "test")),
    ("own", ""),
)


def run(*, data: DataConfig, output: Path) -> None:
    """Draw, download or check the data; write the manifest last.

    Args:
        data: the `data` section.
        output: the manifest: origin, question files with their SHA-256, number of images and a
            digest over the images' names and sizes; of data from the hub also repository and
            commit, of official archives also the SHA-256 of each as it arrived.

    Raises:
        InputError: a file cannot be had, or the folder holds none of the expected files or no
            image.
    """
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
        download_official(folder, archives_of(data.official))
    elif data.origin == "hub":
        repositories = fetch_hub_sets(data)
    files = question_files(data)
    if not files:
        expected = ", ".join(data.question_files(_SPLITS))
        raise InputError(
            f"{folder}: has none of the question files named in the config's data section "
            f"({expected}); put them there or set data.origin"
        )
    _require_images(data, files)
    manifest = _manifest(data, files)
    if repositories:
        manifest["repositories"] = repositories
    if data.origin == "official":
        manifest["archives"] = downloaded_digests(folder, archives_of(data.official))
    return manifest


def question_files(data: DataConfig) -> list[str]:
    """The question files that are there, relative to the data folder."""
    named = data.question_files(_SPLITS)
    return [name for name in named if (Path(data.folder) / name).is_file()]


def _require_images(data: DataConfig, files: list[str]) -> None:
    """Say which question files are without images; refuse where all are.

    A file of a data set that the study does not ask about may well lie there without any.
    """
    folder = Path(data.folder)
    without: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(dataset for dataset, _ in _SPLITS):
        place = data.image_folder(dataset)
        named = data.question_files(split for split in _SPLITS if split[0] == dataset)
        asked = [name for name in named if name in files]
        if asked and not any(path.is_file() for path in (folder / place).rglob("*")):
            without.setdefault(place, []).extend(asked)
    lines = [
        f"{folder / place}: holds no images for {', '.join(names)}"
        for place, names in without.items()
    ]
    if lines and sorted(name for names in without.values() for name in names) == sorted(files):
        key = "data.images" if data.images in without else "data.textvqa_images"
        raise InputError(f"{'; '.join(lines)}; put them there or set {key}")
    for line in lines:
        tell(line)


def _manifest(data: DataConfig, files: list[str]) -> dict[str, object]:
    folder = Path(data.folder)
    places = data.image_folders(dataset for dataset, _ in _SPLITS)
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

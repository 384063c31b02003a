"""The official archives of COCO, VQA v2, POPE and TextVQA: resumable downloads, safe unpacking."""

import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from vrp.download import Checksum, download
from vrp.errors import InputError


class Archive(NamedTuple):
    """One file to download."""

    url: str
    """Where it is published."""
    folder: str
    """Where it goes, or is unpacked to, inside the data folder."""
    checksum: Checksum | None = None
    """Of the whole file, where it is published; a zip archive also checks each of its members."""
    datasets: tuple[str, ...] = ()
    """Which data sets it is a part of."""


_POPE = "https://raw.githubusercontent.com/AoiDragon/POPE/main/output/coco"
_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_TEXTVQA = "https://dl.fbaipublicfiles.com/textvqa"
OFFICIAL = (
    *(Archive(f"{_POPE}/coco_pope_{split}.json", "pope", datasets=("pope",)) for split in
      ("random", "popular", "adversarial")),
    Archive(f"{_VQA}/v2_Questions_Val_mscoco.zip", "vqa", datasets=("vqa",)),
    Archive(f"{_VQA}/v2_Annotations_Val_mscoco.zip", "vqa", datasets=("vqa",)),
    Archive(
        "http://images.cocodataset.org/zips/val2014.zip", ".",
        Checksum("sha256", "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0"),
        datasets=("pope", "vqa"),
    ),
    Archive(f"{_TEXTVQA}/data/TextVQA_0.5.1_val.json", "textvqa", datasets=("textvqa",)),
    Archive(f"{_TEXTVQA}/images/train_val_images.zip", ".", datasets=("textvqa",)),
)  # fmt: skip


def archives_of(datasets: Collection[str]) -> tuple[Archive, ...]:
    """The archives that hold these data sets, questions and images, each once."""
    return tuple(archive for archive in OFFICIAL if set(archive.datasets) & set(datasets))


def download_official(folder: Path, archives: Iterable[Archive]) -> None:
    """Bring every archive into the data folder; what is there already is kept.

    Raises:
        InputError: a file cannot be had; a cut download goes on where it stopped at the next call.
    """
    for archive in archives:
        place = folder / archive.folder
        name = archive.url.rsplit("/", 1)[1]
        done = folder / ".downloads" / f"{name}.done"
        if done.exists():
            continue
        goal = folder / ".downloads" / name if name.endswith(".zip") else place / name
        advice = f"put the file at {goal}"
        download(archive.url, goal, checksum=archive.checksum, advice=advice)
        if name.endswith(".zip"):
            unpack(goal, place)
            goal.unlink()
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; nothing is written outside the folder.

    Raises:
        InputError: the archive is damaged or names a file outside the folder.
    """
    root = folder.resolve()
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.namelist():
                if not (root / member).resolve().is_relative_to(root):
                    raise InputError(
                        f"{archive}: names {member!r}, outside its folder; not unpacked"
                    )
            for info in tqdm(packed.infolist(), unit="file", desc=archive.name, mininterval=5):
                packed.extract(info, root)
    except zipfile.BadZipFile:
        archive.unlink()
        raise InputError(f"{archive}: damaged and deleted; run it again to download it") from None

"""The official archives of COCO, VQA v2 and POPE: resumable downloads, safe unpacking."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import requests
from tqdm import tqdm

from vrp.errors import InputError


class Archive(NamedTuple):
    """One file to download."""

    url: str
    """Where it is published."""
    folder: str
    """Where it goes, or is unpacked to, inside the data folder."""


_POPE = "https://raw.githubusercontent.com/AoiDragon/POPE/main/output/coco"
_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
OFFICIAL = (
    *(Archive(f"{_POPE}/coco_pope_{split}.json", "pope") for split in
      ("random", "popular", "adversarial")),
    Archive(f"{_VQA}/v2_Questions_Val_mscoco.zip", "vqa"),
    Archive(f"{_VQA}/v2_Annotations_Val_mscoco.zip", "vqa"),
    Archive("http://images.cocodataset.org/zips/val2014.zip", "."),
)  # fmt: skip


def download_official(folder: Path, archives: Iterable[Archive] = OFFICIAL) -> None:
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
        if name.endswith(".zip"):
            packed = folder / ".downloads" / name
            download(archive.url, packed)
            unpack(packed, place)
            packed.unlink()
        else:
            download(archive.url, place / name)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()


def download(url: str, path: Path) -> None:
    """Download a file whole; a `.part` beside it is continued where the server allows ranges.

    Raises:
        InputError: the server cannot be reached, refuses, or the connection is cut.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=60) as reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()
                raise InputError(f"{url}: the partial download does not fit; run it again")
            reply.raise_for_status()
            resumed = reply.status_code == requests.codes.partial_content
            _receive(reply, part, have if resumed else 0)
    except (requests.RequestException, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{url}: download stopped ({reason}); run it again to go on, or put the file at {path}"
        ) from None
    part.replace(path)


def _receive(reply: requests.Response, part: Path, have: int) -> None:
    expected = reply.headers.get("Content-Length")
    total = have + int(expected) if expected else None
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, mininterval=5)
    with part.open("ab" if have else "wb") as file, bar:
        for block in reply.iter_content(1 << 16):
            file.write(block)
            bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"{part.stat().st_size} of {total} bytes")


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

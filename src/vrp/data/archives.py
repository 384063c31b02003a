"""Official archives of data sets: resumable downloads, safe unpacking."""

import json
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from vrp.data.dataset import Archive, Dataset
from vrp.data.file_digest import file_sha256
from vrp.download import Checksum, download
from vrp.errors import InputError
from vrp.progress import progress_over
from vrp.tables.atomic_files import write_text

_JSON_START = 1 << 16
# JSON of annotations, which grows most, unpacks to a few ten times its size.
_MAX_GROWTH = 100
_ALWAYS_ALLOWED = 1 << 20  # bytes
_MAX_MEMBERS = 1_000_000
_MAX_NAME = 255  # bytes, of file systems


def archives_of(datasets: Iterable[Dataset]) -> tuple[Archive, ...]:
    """The archives that hold these data sets, questions before images, each once."""
    asked = list(datasets)
    questions = [archive for dataset in asked for archive in dataset.archives]
    images = [dataset.image_set.archive for dataset in asked if dataset.image_set.archive]
    return tuple(dict.fromkeys([*questions, *images]))


def download_official(folder: Path, archives: Iterable[Archive]) -> None:
    """Bring every archive into the data folder; what is there already is kept.

    Raises InputError where a file cannot be had, or is not what its name says; a cut download goes
    on where it stopped at the next call.
    """
    for archive in archives:
        done = _marker(folder, archive)
        if done.exists():
            continue
        target = _target(folder, archive)
        advice = f"put the file at {target}"
        checksum = Checksum("sha256", archive.sha256) if archive.sha256 else None
        download(archive.url, target, checksum=checksum, advice=advice)
        digest = file_sha256(target)
        if target.suffix == ".zip":
            unpack(target, folder / archive.folder)
            target.unlink()
        else:
            _require_json(target)
        write_text(done, json.dumps({"url": archive.url, "sha256": digest}) + "\n")


def not_downloaded(folder: Path, archives: Iterable[Archive]) -> list[str]:
    """The file names of those archives that `download_official` would still ask the network for."""
    return [
        _file_name(archive)
        for archive in archives
        if not _marker(folder, archive).exists() and not _target(folder, archive).exists()
    ]


def downloaded_digests(folder: Path, archives: Iterable[Archive]) -> dict[str, str]:
    """Address → SHA-256 of every archive as it arrived; those unpacked without record left out."""
    found = {}
    for archive in archives:
        mark = _marker(folder, archive)
        text = mark.read_text(encoding="utf-8") if mark.is_file() else ""
        if text.strip():  # an empty mark is of a version that kept none
            record = json.loads(text)
            found[str(record["url"])] = str(record["sha256"])
    return found


def _file_name(archive: Archive) -> str:
    return archive.url.rsplit("/", 1)[1]


def _target(folder: Path, archive: Archive) -> Path:
    """Where the file itself goes; one that was put there by hand is not downloaded."""
    name = _file_name(archive)
    place = ".downloads" if name.endswith(".zip") else archive.folder
    return folder / place / name


def _marker(folder: Path, archive: Archive) -> Path:
    """The file that says that an archive is there, whole and unpacked."""
    return folder / ".downloads" / f"{_file_name(archive)}.done"


def _require_json(path: Path) -> None:
    """Delete and refuse what a proxy's page or an error message left under a JSON file's name."""
    with path.open("rb") as file:
        start = file.read(_JSON_START)
    line, ended, _ = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    whole = line[:1] in (b"{", b"[")
    if whole and ended and line.rstrip()[-1:] == b"}":  # JSON lines: the first of them
        try:
            json.loads(line)
        except ValueError:
            whole = False
    if not whole:
        path.unlink()
        shown = line[:40].decode("utf-8", "replace")
        raise InputError(
            f"{path}: the download is not JSON (it begins with {shown!r}) and was deleted; check "
            "the address and any proxy on the way, then run it again"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; nothing is written outside the folder.

    Raises:
        InputError: the archive is damaged, names a file outside the folder, holds something other
            than plain files, or would unpack to more than an archive of its size can be meant to.
    """
    root = folder.resolve()
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            for member in members:
                if reason := _refusal(member, root):
                    raise InputError(f"{archive}: {_shown(member)} {reason}; not unpacked")
            if clash := _clash(members):
                raise InputError(f"{archive}: {_shown(clash)} occurs twice; not unpacked")
            _require_room(archive, root, sum(member.file_size for member in members), len(members))
            for member in progress_over(members, archive.name, unit="file"):
                _extract(packed, member, root)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError):
        archive.unlink()
        raise InputError(f"{archive}: damaged and deleted; run it again to download it") from None
    except NotImplementedError as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); unpack it by hand") from None
    except OSError as error:
        raise InputError(
            f"{archive}: cannot be unpacked into {folder} ({error.strerror or error}); fix that, "
            "or unpack it by hand"
        ) from None


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path) -> None:
    """Unpack one member, never more than its announced size; none of it where that fails."""
    try:
        packed.extract(member, root)
    except BaseException:
        place = root / member.filename
        if place.is_file():
            place.unlink()
        raise


def _clash(members: Iterable[zipfile.ZipInfo]) -> zipfile.ZipInfo | None:
    """Return a member of the name of another, or of a folder that others are in."""
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    folders: set[PurePosixPath] = set()
    for member in members:
        path = PurePosixPath(member.filename)
        folders.update(path.parents)
        if member.is_dir():
            folders.add(path)
        elif path in files:
            return member
        else:
            files[path] = member
    return next((member for path, member in files.items() if path in folders), None)


def _shown(member: zipfile.ZipInfo) -> str:
    """A member's name as it is printed: in one line, and not longer than that."""
    name = member.filename
    return repr(name if len(name) <= _MAX_NAME else f"{name[:40]}…")


def _refusal(member: zipfile.ZipInfo, root: Path) -> str | None:
    """Why a member is not unpacked; None where it is."""
    if any(len(part.encode("utf-8", "replace")) > _MAX_NAME for part in member.filename.split("/")):
        return f"has a name of more than {_MAX_NAME} bytes"
    if not (root / member.filename).resolve().is_relative_to(root):
        return "is outside its folder"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no plain file"
    return "is encrypted" if member.flag_bits & 1 else None


def _require_room(archive: Path, folder: Path, n_bytes: int, n_members: int) -> None:
    packed = archive.stat().st_size
    if n_bytes > max(_MAX_GROWTH * packed, _ALWAYS_ALLOWED) or n_members > _MAX_MEMBERS:
        raise InputError(
            f"{archive}: {packed} bytes would unpack to {n_bytes} in {n_members} files, more than "
            "any data set's; not unpacked: check where it came from"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise InputError(
            f"{archive}: unpacks to {n_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in "
            f"{folder}; free some space, or set data.folder to a larger file system"
        )

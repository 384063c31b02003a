"""Seals: digests that a Parquet file carries of itself, so that no damage passes unnoticed.

Two stand in the metadata of the footer. `vrp.rows` is the SHA-256 of all bytes before the footer,
that is of the pages: files with equal rows have it in common, whatever made them. `vrp.seal` is
the SHA-256 of the footer with zeros in place of the seal. Each bit of the file is covered by one of
the two. Parquet's own page checksums, which other programs verify, cover neither the footer nor
the pages' headers.
"""

import functools
import hashlib
import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vrp.errors import InputError

BLANKS = {"vrp.rows": "rows:" + "0" * 64, "vrp.seal": "seal:" + "0" * 64}
"""Metadata that a file is written with, which `add_seal` fills in."""
PROVENANCE_PREFIX = "vrp."
"""Begins the keys under which provenance is kept in Parquet's own file metadata."""
# A key, Thrift's two bytes between a key and its value, the value.
_STATED = {
    name: re.compile(rb"vrp\." + name.encode() + rb".." + name.encode() + rb":([0-9a-f]{64})", re.S)
    for name in ("rows", "seal")
}
_END = struct.Struct("<I4s")  # bytes of the footer, magic
_MAGIC = b"PAR1"
_CHUNK_BYTES = 2**20


class Seal(NamedTuple):
    """What a file states of itself, in hexadecimal digits."""

    rows: str
    """Digest of the rows."""
    seal: str
    """Digest of the footer, and so of the whole file."""


def add_seal(path: Path) -> None:
    """Fill in the seal of a Parquet file that was written with `BLANKS`."""
    with path.open("r+b") as file:
        start = _footer_start(file)
        footer = _filled(_footer(file, start), "rows", _pages_digest(file, start))
        footer = _filled(footer, "seal", hashlib.sha256(footer).hexdigest())
        file.seek(start)
        file.write(footer)


def read_seal(path: Path) -> Seal:
    """Return the seal of a file whose footer is as it was written; its pages are not read.

    Raises:
        InputError: the file is missing, no whole Parquet file, without a seal, or damaged.
    """
    try:
        with path.open("rb") as file:
            footer = _footer(file, _footer_start(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage that makes it") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is not a whole Parquet file ({error}); delete it and rerun the stage that "
            "makes it"
        ) from None
    found = {name: pattern.search(footer) for name, pattern in _STATED.items()}
    rows, sealed = found["rows"], found["seal"]
    if rows is None or sealed is None:
        raise InputError(
            f"{path}: has no seal that shows whether its numbers are those that were written: "
            "another program or an older version wrote it; delete it and rerun the stage that "
            "makes it"
        )
    blank = footer[: sealed.start(1)] + b"0" * 64 + footer[sealed.end(1) :]
    if hashlib.sha256(blank).hexdigest() != sealed[1].decode():
        raise _damaged(path, "its footer is not the one that was written")
    return Seal(rows[1].decode(), sealed[1].decode())


def check_pages(path: Path, rows: str) -> None:
    """Refuse a Parquet file whose pages are not those that were written.

    Args:
        path: the file.
        rows: digest of its rows, as `read_seal` gives it.

    Raises:
        InputError: the file is damaged.
    """
    with path.open("rb") as file:
        if _pages_digest(file, _footer_start(file)) != rows:
            raise _damaged(path, "its rows are not those that were written")


def read_provenance(path: Path) -> dict[str, str]:
    """What made a table: study, model, digests, versions. Its rows are not read.

    Raises:
        InputError: the file is missing, no Parquet file, or its footer is damaged.
    """
    import pyarrow.parquet as pq  # half a second, which a plan of what has not run spares

    read_seal(path)
    metadata = pq.read_schema(path).metadata or {}
    pairs = ((key.decode(), value.decode()) for key, value in metadata.items())
    return {
        key.removeprefix(PROVENANCE_PREFIX): value
        for key, value in pairs
        if key.startswith(PROVENANCE_PREFIX)
    }


def check_table(path: Path) -> Seal:
    """Read a table's pages and footer; return its seal.

    Raises:
        InputError: the file is missing or damaged.
    """
    stated = read_seal(path)
    status = path.stat()
    _check_pages_once(path, stated.rows, status.st_size, status.st_mtime_ns)
    return stated


@functools.lru_cache(maxsize=4096)
def _check_pages_once(path: Path, rows: str, _size: int, _time: int) -> None:
    check_pages(path, rows)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: is damaged: {what}; delete it and rerun the stage that makes it")


def _filled(footer: bytes, name: str, digits: str) -> bytes:
    blank = BLANKS[f"vrp.{name}"].encode()
    if footer.count(blank) != 1:
        raise ValueError(f"the footer has no single place for the seal's {name}")
    return footer.replace(blank, f"{name}:{digits}".encode())


def _footer_start(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    end = file.read()
    length, magic = _END.unpack(end) if len(end) == _END.size else (0, b"")
    if magic != _MAGIC or length + _END.size > size:
        raise ValueError("its end is missing or damaged" if size else "it is empty")
    return int(size - _END.size - length)


def _footer(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read()


def _pages_digest(file: BinaryIO, end: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while end > 0 and (chunk := file.read(min(end, _CHUNK_BYTES))):
        digest.update(chunk)
        end -= len(chunk)
    return digest.hexdigest()

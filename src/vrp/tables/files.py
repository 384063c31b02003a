"""Parquet files that appear whole or not at all, and are checked when they are read."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vrp.errors import InputError
from vrp.tables.schema import TableSchema
from vrp.tables.seal import BLANKS, Seal, add_seal, check_pages, read_seal

# A temporary file's name tells whose it is: `.<file>.<process>@<machine>.<random>.part`.
_PART = re.compile(r"\.*(?P<file>.+)\.(?P<process>\d+)@(?P<machine>\w+)\.\w+\.part")
_ABANDONED_SECONDS = 6 * 3600.0
# Keys under which provenance is kept in Parquet's own file metadata.
_PREFIX = "vrp."


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well.

    Args:
        path: the file.
        durable: have the content on the disk before the file has its name, so that a machine that
            loses its power keeps all of it or nothing.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_parts(path.parent, of=path.name)
        owner = f".{path.name}.{os.getpid()}@{_machine()}."
        handle, name = tempfile.mkstemp(prefix=owner, suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from None
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp's 0600 would hide results from a shared group
        if durable:
            _write_through(part)
        part.replace(path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (part, path):
            raise
        raise _cannot_write(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    with path.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            # Some file systems know no such thing; a full disk that shows here is an error.
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                raise


def remove_abandoned_parts(folder: Path, *, of: str | None = None) -> None:
    """Remove temporary files of `atomic_write` whose writer was killed before it could.

    Those of a process of this machine that is gone, and, since of other machines' processes
    nothing is known here, those that nobody has written to for six hours.

    Args:
        folder: where to look; not below it.
        of: name of the file that they were to become; None: any.
    """
    with os.scandir(folder) as entries:
        parts = [entry for entry in entries if entry.name.endswith(".part")]
    for entry in parts:
        found = _PART.fullmatch(entry.name)
        # Where a part is itself written whole, its own name stands within.
        if found and of in (None, found["file"], _innermost(found["file"])):
            with contextlib.suppress(OSError):  # another process was quicker
                if _is_abandoned(found, entry):
                    Path(entry.path).unlink()


def _innermost(name: str) -> str:
    found = _PART.fullmatch(name)
    return _innermost(found["file"]) if found else name


@functools.cache
def _machine() -> str:
    """What process numbers belong to: a machine since it started, or a container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not everywhere
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _is_abandoned(name: re.Match[str], entry: os.DirEntry[str]) -> bool:
    if name["machine"] == _machine():
        try:
            os.kill(int(name["process"]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # it runs, under another user
    return time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS


def require_writable(*paths: Path) -> None:
    """Find out before a long computation whether its results can be written.

    Raises:
        InputError: a folder cannot be made or written.
    """
    for folder in {path.parent for path in paths}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise _cannot_write(folder, error) from None


def write_text(path: Path, content: str) -> None:
    """Write a text file whole (UTF-8)."""
    with atomic_write(path) as part:
        part.write_text(content, encoding="utf-8")


def write_table(
    path: Path,
    schema: TableSchema,
    columns: Mapping[str, Any] | pl.DataFrame | pa.Table,
    *,
    provenance: Mapping[str, str],
) -> None:
    """Write a table, sorted by its key, with its provenance in the file's metadata.

    Args:
        path: the Parquet file.
        schema: the table's contract.
        columns: every column of the schema and no other.
        provenance: study, model, revision, digests and versions that made the table.

    Raises:
        InputError: the folder cannot be written.
        ValueError: the columns break the schema (a fault in a stage, not in the user's input).
    """
    table = _as_table(schema, columns)
    order = [(name, "ascending") for name in schema.key]
    table = table.sort_by(order) if order and table.num_rows else table
    _check_rows(schema, table)
    metadata = {f"{_PREFIX}{key}": value for key, value in sorted(provenance.items())}
    metadata[f"{_PREFIX}table"] = schema.name
    table = table.replace_schema_metadata(metadata)
    with atomic_write(path) as part:
        # A dictionary of floats that hardly repeat makes a file larger than no dictionary.
        dictionaries = _text_paths(table.schema)
        with pq.ParquetWriter(
            part, table.schema, compression="zstd", use_dictionary=dictionaries,
            write_page_checksum=True,
        ) as writer:  # fmt: skip
            writer.write_table(table)
            writer.add_key_value_metadata(BLANKS)
        add_seal(part)


def read_table(
    paths: Path | Sequence[Path],
    schema: TableSchema,
    *,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Read one file or all shards of a table, rows in the order of the key.

    Args:
        paths: one or several Parquet files of the same table.
        schema: what the files must hold.
        columns: only these columns; the key's columns are always read.

    Raises:
        InputError: a file is missing, damaged, of another table, or breaks the schema; or the
            same key is in two files.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    wanted = _wanted(schema, columns)
    nothing = schema.columns.empty_table().select(wanted)
    tables = [_checked(path, schema, wanted).read(columns=wanted) for path in paths] or [nothing]
    frame = pl.concat([_frame(table, wanted) for table in tables])
    if schema.key:
        frame = frame.sort(schema.key)
        doubled = frame.select(schema.key).is_duplicated()
        if doubled.any():
            row = frame.filter(doubled).select(schema.key).row(0)
            places = ", ".join(str(path) for path in paths)
            raise InputError(
                f"{places}: {schema.name} has {row} more than once; delete stale shards and rerun"
            )
    return frame


def read_batches(
    paths: Path | Sequence[Path],
    schema: TableSchema,
    *,
    columns: Sequence[str] | None = None,
    n_rows: int,
) -> Iterator[pl.DataFrame]:
    """Read one file or all shards piece by piece, in the order of the files and of their rows.

    For columns that are too wide to be in memory for all items at once; that a key is in two
    files only `read_table` can tell.

    Args:
        paths: one or several Parquet files of the same table.
        schema: what the files must hold.
        columns: only these columns; the key's columns are always read.
        n_rows: most rows of a piece, which never spans two files.

    Raises:
        InputError: a file is missing, damaged, of another table, or breaks the schema.
    """
    wanted = _wanted(schema, columns)
    for path in [paths] if isinstance(paths, Path) else paths:
        for batch in _checked(path, schema, wanted).iter_batches(n_rows, columns=wanted):
            yield _frame(batch, wanted)


def read_provenance(path: Path) -> dict[str, str]:
    """What made a table: study, model, digests, versions. Its rows are not read.

    Raises:
        InputError: the file is missing, no Parquet file, or its footer is damaged.
    """
    metadata = _open(path, footer_only=True).schema_arrow.metadata or {}
    pairs = ((key.decode(), value.decode()) for key, value in metadata.items())
    return {key.removeprefix(_PREFIX): value for key, value in pairs if key.startswith(_PREFIX)}


def check_table(path: Path) -> Seal:
    """Read a table's pages and footer; return its seal.

    Raises:
        InputError: the file is missing or damaged.
    """
    stated = read_seal(path)
    status = path.stat()
    _check_pages_once(path, stated.rows, status.st_size, status.st_mtime_ns)
    return stated


def _text_paths(schema: pa.Schema) -> list[str]:
    """Parquet's names of the columns that hold text, alone or in lists."""
    paths = []
    for field in schema:
        if pa.types.is_string(field.type):
            paths.append(field.name)
        elif pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
            paths.append(f"{field.name}.list.element")
    return paths


def _as_table(
    schema: TableSchema, columns: Mapping[str, Any] | pl.DataFrame | pa.Table
) -> pa.Table:
    if isinstance(columns, pl.DataFrame):
        columns = columns.to_arrow()
    names = columns.column_names if isinstance(columns, pa.Table) else list(columns)
    if set(names) != set(schema.columns.names):
        missing = sorted(set(schema.columns.names) - set(names))
        extra = sorted(set(names) - set(schema.columns.names))
        raise ValueError(f"table {schema.name}: missing columns {missing}, unknown columns {extra}")
    if isinstance(columns, pa.Table):
        return columns.select(schema.columns.names).cast(schema.columns)
    arrays = [_as_array(columns[field.name], field) for field in schema.columns]
    return pa.Table.from_arrays(arrays, schema=schema.columns)


def _as_array(values: Any, field: pa.Field) -> pa.Array:
    if isinstance(values, pl.Series):
        values = values.to_arrow()
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(field.type)
    return pa.array(values, type=field.type)


def _check_rows(schema: TableSchema, table: pa.Table) -> None:
    for field in schema.columns:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"table {schema.name}: column {field.name} must not have nulls")
    if schema.key and table.num_rows > 1:
        # The rows are in the order of the key: equal ones are neighbours.
        keys = [table.column(name) for name in schema.key]
        equal = functools.reduce(pc.and_, (pc.equal(key[1:], key[:-1]) for key in keys))
        place = pc.index(equal, True).as_py()
        if place >= 0:
            row = tuple(key[place].as_py() for key in keys)
            raise ValueError(f"table {schema.name}: key {row} is not unique")


def _wanted(schema: TableSchema, columns: Sequence[str] | None) -> list[str]:
    names = list(schema.columns.names)
    chosen = set(names if columns is None else columns) | set(schema.key)
    return [name for name in names if name in chosen]


def _frame(data: pa.Table | pa.RecordBatch, columns: list[str]) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame.select(columns)


def _checked(path: Path, schema: TableSchema, wanted: list[str]) -> pq.ParquetFile:
    """The opened file, whose columns are found to be as the schema has them."""
    file = _open(path)
    found = file.schema_arrow
    name = (found.metadata or {}).get(f"{_PREFIX}table".encode(), b"").decode()
    if name != schema.name:
        raise InputError(
            f"{path}: holds table {name or 'of unknown kind'!r}, not {schema.name!r}; "
            "check the path, or delete the file and rerun the stage that makes it"
        )
    for column_name in wanted:
        field = schema.columns.field(column_name)
        index = found.get_field_index(column_name)
        if index < 0 or found.field(index).type != field.type:
            have = "missing" if index < 0 else f"of type {found.field(index).type}"
            raise InputError(
                f"{path}: column {column_name!r} is {have}, expected {field.type}; "
                "it was made by another version: delete it and rerun"
            )
    return file


def _open(path: Path, *, footer_only: bool = False) -> pq.ParquetFile:
    """Open a file that is as it was written, down to the last bit."""
    if footer_only:
        read_seal(path)
    else:
        check_table(path)
    return pq.ParquetFile(path)


@functools.lru_cache(maxsize=4096)
def _check_pages_once(path: Path, rows: str, _size: int, _time: int) -> None:
    check_pages(path, rows)


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "check the folder's permissions and the disk's free space"
    )

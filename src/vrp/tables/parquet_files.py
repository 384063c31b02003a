"""Tables as Parquet files: written whole with their provenance, and checked when they are read."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vrp.errors import InputError
from vrp.tables.atomic_files import atomic_write
from vrp.tables.schema import TableSchema
from vrp.tables.seal import BLANKS, PROVENANCE_PREFIX, add_seal, check_table

_BUFFER_BYTES = 2**20


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
    metadata = {f"{PROVENANCE_PREFIX}{key}": value for key, value in sorted(provenance.items())}
    metadata[f"{PROVENANCE_PREFIX}table"] = schema.name
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
        file = _checked(path, schema, wanted, buffer_size=_BUFFER_BYTES)
        for batch in file.iter_batches(n_rows, columns=wanted):
            yield _frame(batch, wanted)


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


def _checked(
    path: Path, schema: TableSchema, wanted: list[str], *, buffer_size: int = 0
) -> pq.ParquetFile:
    """The opened file, whose columns are found to be as the schema has them.

    Without a buffer a column is in memory as a whole when its first row is read.
    """
    check_table(path)
    file = pq.ParquetFile(path, buffer_size=buffer_size, pre_buffer=not buffer_size)
    found = file.schema_arrow
    name = (found.metadata or {}).get(f"{PROVENANCE_PREFIX}table".encode(), b"").decode()
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

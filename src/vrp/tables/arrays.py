"""List columns as arrays, without a detour through Python numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from vrp.tables.captured import is_captured

# Shapes, as the schemas state them, that all items of a model have in common.
_ONE_SHAPE = (b"n_layers", "n_layers × n_heads".encode())


def as_array(column: pl.Series) -> NDArray[np.floating]:
    """Lists, or lists of lists, of one shape: (n, …) in the column's own precision.

    Raises:
        ValueError: the rows' shapes differ.
    """
    shape = [len(column)]
    while isinstance(column.dtype, pl.List):
        lengths = column.list.len()
        if lengths.n_unique() > 1:
            raise ValueError(f"column {column.name!r}: rows differ in shape")
        shape.append(int(lengths[0]) if len(lengths) else 0)
        column = column.explode(empty_as_null=False)
    return column.to_numpy().reshape(shape)


def as_matrices(column: pl.Series) -> Iterator[NDArray[np.floating]]:
    """Rows of lists of lists as matrices, whose shapes may differ from row to row.

    Raises:
        ValueError: a row's lists differ in length.
    """
    heights = column.list.len().to_numpy()
    rows = column.explode(empty_as_null=False)
    widths = rows.list.len().to_numpy()
    values = rows.explode(empty_as_null=False).to_numpy()
    row = start = 0
    for height in heights.tolist():
        found = widths[row : row + height]
        width = int(found[0]) if height else 0
        if (found != width).any():
            raise ValueError(f"column {column.name!r}: a row's lists differ in length")
        yield values[start : start + height * width].reshape(height, width)
        row, start = row + height, start + height * width


def captured_as_a_whole(field: pa.Field) -> bool:
    """Whether a column was captured for all rows or for none: matrices, and lists over layers."""
    nested = pa.types.is_list(field.type) and pa.types.is_list(field.type.value_type)
    return nested or _of_one_shape(field)


def _of_one_shape(field: pa.Field) -> bool:
    return (field.metadata or {}).get(b"shape") in _ONE_SHAPE


def item_values(column: pl.Series, field: pa.Field) -> Any:
    """A column as an array where its rows have one shape, or else as one entry a row.

    Args:
        column: rows of a table.
        field: the column in the table's schema.

    Returns:
        (n, …) array of numbers, NaN where null; matrices, lists or texts one by one; None where
        no row has a value.

    Raises:
        InputError: some rows only are null where it was captured as a whole or not at all.
    """
    if len(column) and column.null_count() == len(column):
        return None
    if captured_as_a_whole(field) and is_captured(column):
        return as_array(column) if _of_one_shape(field) else list(as_matrices(column))
    return column.to_numpy() if column.dtype.is_numeric() else column.to_list()

"""List columns as arrays, without a detour through Python numbers."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray


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

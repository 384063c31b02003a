"""Arrays of many items as Arrow columns, without a detour through Python numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vrp.tables.schema import TableSchema


def lists(rows: Sequence[np.ndarray | Sequence[float]], dtype: type) -> pa.ListArray:
    """Return one list a row from vectors of any length."""
    kind = pa.list_(pa.from_numpy_dtype(dtype))
    return pa.array([np.asarray(row, dtype=dtype) for row in rows], type=kind)


def nested_lists(rows: Sequence[np.ndarray], dtype: type) -> pa.ListArray:
    """Return one list of lists a row from matrices of any shape."""
    kind = pa.list_(pa.list_(pa.from_numpy_dtype(dtype)))
    return pa.array([list(np.asarray(row, dtype=dtype)) for row in rows], type=kind)


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """Return one list of fixed length a row from a matrix (n, d)."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def rows_table(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table from one mapping a row, which names every column."""
    columns = {name: [row[name] for row in rows] for name in schema.columns.names}
    return pa.table(columns, schema=schema.columns)

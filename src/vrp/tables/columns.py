"""Arrays of many items as Arrow columns, without a detour through Python numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vrp.tables.schema import TableSchema


def lists(rows: Sequence[np.ndarray | Sequence[float]], dtype: type) -> pa.ListArray:
    """Return one list a row from vectors of any length."""
    parts: list[np.ndarray] = [np.asarray(row, dtype=dtype) for row in rows]
    return _lists([len(part) for part in parts], pa.array(_joined(parts, dtype)))


def nested_lists(rows: Sequence[np.ndarray], dtype: type) -> pa.ListArray:
    """Return one list of lists a row from matrices of any shape."""
    matrices: list[np.ndarray] = [np.asarray(row, dtype=dtype) for row in rows]
    values = _joined([matrix.reshape(-1) for matrix in matrices], dtype)
    widths = [matrix.shape[1] for matrix in matrices for _ in range(matrix.shape[0])]
    return _lists([matrix.shape[0] for matrix in matrices], _lists(widths, pa.array(values)))


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """Return one list of fixed length a row from a matrix (n, d)."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def rows_table(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table from one mapping a row, which names every column."""
    columns = {name: [row[name] for row in rows] for name in schema.columns.names}
    return pa.table(columns, schema=schema.columns)


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _lists(lengths: Sequence[int], values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)

"""The numbers that figures show as tables: one row a mark, which a figure draws and a CSV holds."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

TEXT, WHOLE, NUMBER = pl.String(), pl.Int64(), pl.Float64()

INTERVAL: dict[str, pl.DataType] = {
    "value": NUMBER, "low": NUMBER, "high": NUMBER, "n": WHOLE, "images": WHOLE,
}  # fmt: skip
"""Columns of an estimate: value, ends of its 95% interval, items, images."""


def table_of_marks(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """Return a table of marks; a column that a row lacks is null there, as is NaN.

    Args:
        rows: the marks, in the order in which they are shown.
        columns: name → type, in order.
    """
    return pl.DataFrame(list(rows), schema=dict(columns), strict=False).fill_nan(None)


def interval_of(row: Mapping[str, Any], *, value: str = "value") -> dict[str, Any]:
    """Return the columns of `INTERVAL` from a row of an estimates or effects table.

    Args:
        row: with low, high, n and n_groups.
        value: its column that holds the value.
    """
    return {
        "value": row[value], "low": row["low"], "high": row["high"],
        "n": row["n"], "images": row["n_groups"],
    }  # fmt: skip


def of_model(marks: pl.DataFrame, model: str) -> pl.DataFrame:
    """Return the rows of one model."""
    return marks.filter(pl.col("model") == model)

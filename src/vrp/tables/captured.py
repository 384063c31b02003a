"""Columns that hold something only where the extraction was asked for it.

Such a column is null in every row where it was not captured; a value that is missing for one item
alone is NaN. The tables' provenance names what was captured under `CAPTURED`, comma-joined.
"""

import polars as pl

from vrp.errors import InputError

CAPTURED = "captured"
"""Key of the provenance."""
NOT_CAPTURED = "not captured"
"""How estimates, figures and the report say it."""


def is_captured(column: pl.Series) -> bool:
    """Whether a column's values were captured; a column without rows counts as captured.

    Raises:
        InputError: it is null in some rows only, as where shards of two captures were mixed.
    """
    return captured(column.name, column.null_count(), len(column))


def captured(name: str, n_null: int, n_rows: int) -> bool:
    """As `is_captured`, of a column that was read piece by piece.

    Args:
        name: the column.
        n_null: its rows that are null.
        n_rows: all its rows.

    Raises:
        InputError: as `is_captured`.
    """
    if 0 < n_null < n_rows:
        raise InputError(
            f"column {name!r} was captured for {n_rows - n_null} of {n_rows} "
            "items only: the shards were made with different extract.capture; rerun `vrp extract` "
            "for all of them"
        )
    return n_null == 0

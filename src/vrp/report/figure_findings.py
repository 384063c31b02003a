"""What a figure shows, in words, from the numbers beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vrp.errors import InputError
from vrp.report.numbers import decimal

# Columns of text and numbers that say where in a figure a row is.
_PLACES = ("layer", "dose", "share", "level", "coverage")
_NOT_LABELS = ("model", "note", "stratum", "quantity", "mark")


def finding(path: Path) -> str | None:
    """The lowest and the highest value of each model, with what they are of; None: no values.

    Args:
        path: numbers of a figure, one row a mark, with a column `value`.

    Raises:
        InputError: the file is missing, or no CSV.
    """
    try:
        rows = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: is not a readable CSV ({error}); rerun figures") from None
    if rows.is_empty():
        return None
    if "value" not in rows.columns:
        return ""
    values = rows["value"].cast(pl.Float64, strict=False)
    if values.null_count() > rows["value"].null_count():  # words
        return ""
    rows = rows.filter(values.is_finite().fill_null(value=False))
    if rows.is_empty():
        return None
    rows, quantity = _of_one_quantity(rows)
    if "model" not in rows.columns:
        rows = rows.with_columns(model=pl.lit("all"))
    labels = _label_columns(rows)
    parts = []
    for (model,), of_model in rows.partition_by("model", as_dict=True).items():
        low, high = of_model.sort("value", maintain_order=True)[[0, -1]].to_dicts()
        ends = [f"{decimal(low['value'])}{_label(low, labels)}"]
        if high["value"] > low["value"]:
            ends.append(f"{decimal(high['value'])}{_label(high, labels)}")
        parts.append(f"{model}, {' to '.join(ends)}")
    found = "; ".join(parts)
    return f"{quantity}: {found}" if quantity and found else found


def _of_one_quantity(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The rows of the first kind of mark, and of the quantity that has most, the first of equals;
    and its name."""
    if "mark" in rows.columns and len(rows):
        rows = rows.filter(pl.col("mark") == rows["mark"][0])
    if "quantity" not in rows.columns or not len(rows):
        return rows, ""
    counts = rows["quantity"].value_counts()
    most = counts.filter(pl.col("count") == pl.col("count").max())["quantity"]
    name = next(one for one in rows["quantity"] if one in most)
    return rows.filter(pl.col("quantity") == name), str(name)


def _label_columns(rows: pl.DataFrame) -> list[str]:
    """Columns left of the value that tell rows apart, without those that another one tells; of
    two that tell each other, such as name and label, the later one."""
    columns = [
        name
        for name in rows.columns[: rows.columns.index("value")]
        if name not in _NOT_LABELS and (rows[name].dtype == pl.String or name in _PLACES)
        if rows[name].n_unique() > 1
    ]
    return [name for name in columns if not _is_told(rows, name, columns)]


def _is_told(rows: pl.DataFrame, name: str, columns: Sequence[str]) -> bool:
    """Whether another column determines this one."""
    for other in columns:
        if other == name:
            continue
        together = rows.select(pl.struct(other, name).n_unique()).item()
        mutual = together == rows[name].n_unique() and columns.index(name) > columns.index(other)
        if together == rows[other].n_unique() and not mutual:
            return True
    return False


def _label(row: dict[str, Any], labels: Sequence[str]) -> str:
    """What a row is of, in brackets."""
    words = [
        f"{name} {row[name]:g}" if name in _PLACES else str(row[name])
        for name in labels
        if row[name] is not None
    ]
    return f" ({', '.join(words)})" if words else ""

"""What a figure shows, in words, from the numbers beside it."""

from pathlib import Path

import polars as pl

from vrp.errors import InputError
from vrp.report.numbers import decimal

_NOT_LABELS = ("model", "note")
# Columns that say of which quantity a row is: values of several are not comparable.
_QUANTITIES = ("quantity", "metric", "panel", "measure")


def finding(path: Path) -> str:
    """The highest and the lowest value of each model, with what they are of.

    Args:
        path: numbers of a figure, one row a mark, with a column `value`.

    Raises:
        InputError: the file is missing, or no CSV.
    """
    try:
        rows = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: is not a readable CSV ({error}); rerun figures") from None
    if "value" not in rows.columns or not rows["value"].dtype.is_numeric():
        return ""
    rows = rows.filter(pl.col("value").is_finite())
    for quantity in (name for name in _QUANTITIES if name in rows.columns and len(rows)):
        rows = rows.filter(pl.col(quantity) == rows[quantity][0])
    if "model" not in rows.columns:
        rows = rows.with_columns(model=pl.lit("all"))
    labels = _label_columns(rows)
    parts = []
    for (model,), of_model in rows.partition_by("model", as_dict=True).items():
        low, high = of_model.sort("value", maintain_order=True)[[0, -1]].to_dicts()
        ends = [f"{decimal(low['value'])}{_label(low, labels)}"]
        if high["value"] > low["value"]:
            ends.append(f"{decimal(high['value'])}{_label(high, labels)}")
        parts.append(f"{model}: {' to '.join(ends)}")
    return "; ".join(parts)


def _label_columns(rows: pl.DataFrame) -> list[str]:
    """Columns left of the value that tell rows apart; of two that tell the same, the later one,
    which is the label of a name."""
    found: list[str] = []
    for name in rows.columns[: rows.columns.index("value")]:
        is_label = rows[name].dtype == pl.String or name == "layer"
        if name in _NOT_LABELS or not is_label or rows[name].n_unique() < 2:
            continue
        together = [rows.select(pl.struct(one, name).n_unique()).item() for one in found]
        n = rows[name].n_unique()
        found = [
            one for one, both in zip(found, together, strict=True)
            if not both == rows[one].n_unique() == n
        ]  # fmt: skip
        found.append(name)
    return found


def _label(row: dict[str, object], labels: list[str]) -> str:
    """What a row is of, in brackets."""
    words = [
        f"layer {row[name]}" if name == "layer" else str(row[name])
        for name in labels
        if row[name] is not None
    ]
    return f" ({', '.join(words)})" if words else ""

"""How a table is declared: columns with type, unit, shape and meaning in the schema itself."""

from dataclasses import dataclass
from functools import partial

import pyarrow as pa


@dataclass(frozen=True)
class TableSchema:
    """A table's contract, checked on every write and read."""

    name: str
    """Table name, stored in the file."""
    columns: pa.Schema
    """Arrow types; each field's metadata holds `description` and, where it has them, `unit` and
    `shape`."""
    key: tuple[str, ...]
    """Columns that together name a row; unique in a file, and the rows' order."""

    def only(self, *names: str) -> "TableSchema":
        """The same table with its key and these columns: what a reader of no others needs."""
        kept = {*self.key, *names}
        fields = [self.columns.field(name) for name in [*self.columns.names] if name in kept]
        unknown = kept - set(self.columns.names)
        if unknown:
            raise ValueError(f"table {self.name} has no columns {sorted(unknown)}")
        return TableSchema(self.name, pa.schema(fields), self.key)


def table(name: str, key: tuple[str, ...], *columns: pa.Field) -> TableSchema:
    """A table of these columns."""
    return TableSchema(name, pa.schema(columns), key)


def column(
    name: str,
    dtype: pa.DataType,
    description: str,
    *,
    unit: str | None = None,
    shape: str | None = None,
    nullable: bool = False,
) -> pa.Field:
    """One column; `nullable` says that a missing value is allowed and means "not applicable"."""
    metadata = {"description": description}
    if unit is not None:
        metadata["unit"] = unit
    if shape is not None:
        metadata["shape"] = shape
    return pa.field(name, dtype, nullable=nullable, metadata=metadata)


optional = partial(column, nullable=True)
"""A column in which a value may be missing."""


def per_layer(name: str, description: str, *, unit: str | None = None) -> pa.Field:
    """A number for each decoder layer; missing where it was not captured."""
    return optional(name, numbers, description, unit=unit, shape="n_layers")


def per_head(name: str, description: str, *, unit: str | None = None) -> pa.Field:
    """A number for each attention head of each layer; missing where it was not captured."""
    return optional(name, number_rows, description, unit=unit, shape="n_layers × n_heads")


text = pa.string()
flag = pa.bool_()
integer = pa.int32()
number = pa.float32()
precise = pa.float64()
texts = pa.list_(pa.field("item", pa.string(), nullable=False))
integers = pa.list_(pa.field("item", pa.int32(), nullable=False))
numbers = pa.list_(pa.field("item", pa.float32(), nullable=False))
number_rows = pa.list_(pa.field("item", numbers, nullable=False))

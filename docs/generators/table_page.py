"""Every table of a study with its columns, from the schemas that writing and reading check."""

import importlib
from collections.abc import Iterator

import pyarrow as pa
from md_text import codes, sentence, table

from vrp.study.declarations import Artifact
from vrp.study.graph import MADE_BY
from vrp.tables.hidden import hidden_table
from vrp.tables.schema import TableSchema

_HEAD = """# Tables

Every table of a study is a Parquet file under `results/<study>`. Types, units, shapes and
descriptions are stored in the file itself, in the metadata of its columns; this page is generated
from the same schemas. [Read the tables](read-tables.md) shows how to open them with polars, pandas
and DuckDB.

A **null** value does not apply or was not captured. A **NaN** value is undefined for this item
only, and the column `note` says why. The key identifies a row and defines the order of rows.
"""


def table_page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for artifact in MADE_BY:
        if not artifact.schema:
            continue
        schema = schema_of(artifact)
        about = (
            f"{sentence(artifact.help)} Key: {codes(schema.key)}. "
            f"Made by [{MADE_BY[artifact].command}](stages/{MADE_BY[artifact].name}.md)."
        )
        rows = [_row(field) for field in schema.columns]
        columns = table(["column", "type", "unit", "shape", "meaning"], rows)
        yield f"## {artifact.name}\n\n`{artifact.path}`\n\n{about}\n\n{columns}"


def schema_of(artifact: Artifact) -> TableSchema:
    """Return a table's schema; that of hidden states with one layer."""
    module, name = artifact.schema.split(":")
    found = getattr(importlib.import_module(module), name)
    if found is hidden_table:
        return hidden_table(n_layers=1, d_model=1, dtype="float32")
    return found() if callable(found) else found


def _row(field: pa.Field) -> tuple[str, str, str, str, str]:
    told = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    kind = _type(field.type) + (" or null" if field.nullable else "")
    meaning = told["description"] + ("; and so on, one column a layer" * (field.name == "layer_00"))
    return f"`{field.name}`", kind, told.get("unit", ""), told.get("shape", ""), meaning


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {_type(kind.value_type)}"
    names = {"string": "text", "float": "float32", "double": "float64"}
    return names.get(str(kind), str(kind))

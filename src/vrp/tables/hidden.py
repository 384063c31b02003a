"""`<model>/hidden/`: the residual stream, one column per layer."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vrp.errors import InputError
from vrp.tables.schema import TableSchema, column, table, text
from vrp.tables.seal import read_seal

EMBED = "embed"


def layer_column(layer: int) -> str:
    """Column of a decoder layer: `layer_00` is the residual after decoder layer 0."""
    return f"layer_{layer:02d}"


def hidden_table(*, n_layers: int, d_model: int, dtype: str) -> TableSchema:
    """The schema for a model's size; `dtype` is float32 or float16."""
    vector = pa.list_(pa.field("item", getattr(pa, dtype)(), nullable=False), d_model)
    layers = [
        column(layer_column(i), vector, f"residual after decoder layer {i}", shape="d_model")
        for i in range(n_layers)
    ]
    return table(
        "hidden",
        ("item_id", "position"),
        column("item_id", text, "item"),
        column("position", text, "prompt_end (last prompt token) or answer_end"),
        column(EMBED, vector, "input to decoder layer 0", shape="d_model"),
        *layers,
    )


def written_hidden_table(path: Path) -> TableSchema:
    """The schema that a file of hidden states was written with.

    Raises:
        InputError: the file is missing, damaged, or holds no hidden states.
    """
    read_seal(path)
    try:
        found = pq.read_schema(path)
        vectors = found.field(EMBED).type
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: holds no hidden states ({reason}); rerun its stage") from None
    return hidden_table(
        n_layers=sum(name.startswith("layer_") for name in found.names),
        d_model=vectors.list_size,
        dtype=f"float{vectors.value_type.bit_width}",
    )

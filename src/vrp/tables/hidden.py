"""`<model>/hidden/`: the residual stream, one column per layer."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, text

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
    return TableSchema(
        name="hidden",
        key=("item_id", "position"),
        columns=pa.schema(
            [
                column("item_id", text, "item"),
                column("position", text, "prompt_end (last prompt token) or answer_end"),
                column(EMBED, vector, "input to decoder layer 0", shape="d_model"),
                *layers,
            ]
        ),
    )

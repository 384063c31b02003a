"""`<model>/attention/`: where the answer tokens' queries look.

A column is null in every row where it was not captured (`vrp.tables.captured`).
"""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, integer, number_rows, numbers, text

ATTENTION = TableSchema(
    name="attention",
    key=("item_id",),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column("grid_h", integer, "rows of the image-token grid"),
            column("grid_w", integer, "columns of the image-token grid"),
            column(
                "maps",
                number_rows,
                "M(l): mean over heads and answer queries, renormalised over image tokens",
                shape="n_layers × (grid_h·grid_w), row-major",
                nullable=True,
            ),
            column(
                "image_mass",
                numbers,
                "share of attention on image tokens before renormalising",
                unit="share",
                shape="n_layers",
                nullable=True,
            ),
            column(
                "head_entropy",
                number_rows,
                "spatial entropy H_s of each head",
                unit="nats",
                shape="n_layers × n_heads",
                nullable=True,
            ),
            column(
                "head_clusters",
                number_rows,
                "cluster count C_k (dbscan) of each head",
                shape="n_layers × n_heads",
                nullable=True,
            ),
            column(
                "head_contribution",
                number_rows,
                "direct contribution of each head to the answer pair's logit difference",
                unit="logits",
                shape="n_layers × n_heads",
                nullable=True,
            ),
            column("note", text, "why a value is missing", nullable=True),
        ]
    ),
)

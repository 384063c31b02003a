"""`<model>/heads.parquet`: attention heads ranked by what they add to the answer.

Without rows where nothing of the heads was captured; a column is null in every row where what it
is computed from was not.
"""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, integer, precise

HEADS = TableSchema(
    name="heads",
    key=("layer", "head"),
    columns=pa.schema(
        [
            column("layer", integer, "decoder layer"),
            column("head", integer, "attention head"),
            column(
                "rank",
                integer,
                "0 is the head with the largest mean absolute contribution",
                nullable=True,
            ),
            column(
                "contribution",
                precise,
                "mean direct contribution to the answer pair's logit difference",
                unit="logits",
                nullable=True,
            ),
            column("r_entropy", precise, "correlation of its H_s with correctness", nullable=True),
            column("r_clusters", precise, "correlation of its C_k with correctness", nullable=True),
        ]
    ),
)

"""`<model>/consistency/`: K sampled answers an item."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, flag, number, text, texts

CONSISTENCY = TableSchema(
    name="consistency",
    key=("item_id",),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column("answers", texts, "sampled answers as decoded", shape="k"),
            column("normalised", texts, "sampled answers, normalised", shape="k"),
            column("self_consistency", number, "S_SC: share of the majority answer", unit="share"),
            column("majority", text, "majority answer; a tie goes to the one sampled first"),
            column("majority_correct", flag, "whether the majority answer is correct"),
        ]
    ),
)

"""`<model>/predictions.parquet`: out-of-fold scores of every probe."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, integer, number, text

PREDICTIONS = TableSchema(
    name="predictions",
    key=("item_id", "probe"),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column("probe", text, "probe or baseline"),
            column("layer", integer, "decoder layer used for this item; -1: does not apply"),
            column("fold", integer, "the fold that held the item out"),
            column("score", number, "probability of `correct`, never fitted on the item's image"),
        ]
    ),
)

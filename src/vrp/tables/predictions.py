"""`<model>/predictions.parquet`: out-of-fold scores of every probe."""

from vrp.tables.schema import column, integer, number, table, text

PREDICTIONS = table(
    "predictions",
    ("item_id", "probe"),
    column("item_id", text, "item"),
    column("probe", text, "probe or baseline"),
    column("layer", integer, "decoder layer used for this item; -1: does not apply"),
    column("fold", integer, "the fold that held the item out"),
    column(
        "score",
        number,
        "probability of `correct`, never fitted on the item's image; of `mahalanobis` and "
        "`distilled_consistency` a rank only: higher means more likely right",
    ),
)

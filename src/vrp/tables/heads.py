"""`<model>/heads.parquet`: attention heads ranked by what they add to the answer.

Without rows where nothing of the heads was captured; a column is null in every row where what it
is computed from was not.
"""

from vrp.tables.schema import column, integer, optional, precise, table

HEADS = table(
    "heads",
    ("layer", "head"),
    column("layer", integer, "decoder layer"),
    column("head", integer, "attention head"),
    optional("rank", integer, "0 is the head with the largest mean absolute contribution"),
    optional(
        "contribution",
        precise,
        "mean direct contribution to the answer pair's logit difference",
        unit="logits",
    ),
    optional("r_entropy", precise, "correlation of its H_s with correctness, within strata"),
    optional("r_clusters", precise, "correlation of its C_k with correctness, within strata"),
)

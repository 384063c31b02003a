"""`<model>/attention/`: where the answer tokens' queries look.

A column is null in every row where it was not captured (`vrp.tables.captured`).
"""

from vrp.tables.schema import (
    column,
    integer,
    integers,
    number_rows,
    optional,
    per_head,
    per_layer,
    table,
    text,
)

ATTENTION = table(
    "attention",
    ("item_id",),
    column("item_id", text, "item"),
    column("grid_h", integer, "rows of the image-token grid"),
    column("grid_w", integer, "columns of the image-token grid"),
    optional(
        "maps",
        number_rows,
        "M(l): mean over heads and answer queries, renormalised over image tokens",
        shape="n_layers × (grid_h·grid_w), row-major",
    ),
    per_layer(
        "image_mass", "share of attention on image tokens before renormalising", unit="share"
    ),
    optional(
        "sinks",
        integers,
        "image tokens whose residual norm is an outlier as they enter a layer: layer·S + token, "
        "S = grid_h·grid_w",
        shape="n_sinks",
    ),
    per_head("head_entropy", "spatial entropy H_s of each head", unit="nats"),
    per_head("head_clusters", "cluster count C_k (dbscan) of each head"),
    per_head(
        "head_contribution",
        "direct contribution of each head to the answer pair's logit difference",
        unit="logits",
    ),
    optional("note", text, "why a value is missing"),
)

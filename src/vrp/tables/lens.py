"""`<model>/lens/`: the answer as it forms, layer by layer, at `prompt_end`.

A column is null in every row where it was not captured (`vrp.tables.captured`).
"""

from vrp.tables.schema import column, integer, number, optional, per_layer, table, text

LENS = table(
    "lens",
    ("item_id",),
    column("item_id", text, "item"),
    per_layer(
        "truth_margin",
        "best logit of a token that starts the reference minus the best other; holds the "
        "label: a diagnostic, never a predictor",
        unit="logits",
    ),
    per_layer(
        "decision_margin", "top logit minus the runner-up's, through the final norm", unit="logits"
    ),
    optional("pair_top", integer, "token id of the last layer's top answer"),
    optional("pair_runner_up", integer, "token id of the last layer's runner-up"),
    optional(
        "embed_contribution",
        number,
        "embedding's share of the pair's logit difference",
        unit="logits",
    ),
    per_layer(
        "attention_contribution",
        "each attention module's share of the pair's logit difference",
        unit="logits",
    ),
    per_layer("mlp_contribution", "each MLP's share of the pair's logit difference", unit="logits"),
    optional("logit_difference", number, "the pair's logit difference", unit="logits"),
    per_layer(
        "residual_update", "norm of a layer's change to the residual, mean over image tokens"
    ),
    optional("note", text, "why a value is missing"),
)

"""`<model>/mask/` and `<model>/ablate/`: the answer under every condition."""

from vrp.tables.schema import column, flag, integer, number, optional, table, text

_RESULT = [
    column("answer", text, "greedy answer under the condition"),
    optional("parsed", text, "parsed answer; null: unparsed"),
    column("score", number, "as in the answers table", unit="share"),
    column("correct", flag, "whether the answer is correct"),
    column("changed", flag, "whether the normalised answer differs from the baseline answer"),
    column("decision_margin", number, "top logit minus runner-up's, first token", unit="logits"),
]

MASK = table(
    "mask",
    ("item_id", "condition", "seed"),
    column("item_id", text, "item"),
    column("condition", text, "`top_30`, `random_30`, `bottom_30`, `no_image` …"),
    column("seed", integer, "repeat of a random control; 0 otherwise"),
    column("share", number, "share of image tokens masked", unit="share"),
    column("n_masked", integer, "image tokens masked"),
    *_RESULT,
)

ABLATE = table(
    "ablate",
    ("item_id", "condition", "seed"),
    column("item_id", text, "item"),
    column("condition", text, "`top_5`, `random_5`, `random_50pct` …"),
    column("seed", integer, "repeat of a random condition; 0 otherwise"),
    column("layer", integer, "decoder layer whose output is edited"),
    column("n_neurons", integer, "dimensions ablated"),
    *_RESULT,
)

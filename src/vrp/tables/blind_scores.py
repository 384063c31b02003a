"""`<model>/blind/scores/`: how likely the answer to the image is without it."""

from vrp.tables.schema import column, numbers, table, text

BLIND_SCORES = table(
    "blind_scores",
    ("item_id",),
    column("item_id", text, "item"),
    column(
        "token_logprobs",
        numbers,
        "log-probability of each token of the answer that was given with the image, each after "
        "those before it, with a blank image",
        unit="nats",
        shape="n_tokens",
    ),
    column(
        "first_token_logprobs",
        numbers,
        "log-probability, with a blank image, of the first tokens that are likeliest with the "
        "image, in their order",
        unit="nats",
        shape="n_first",
    ),
)

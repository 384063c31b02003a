"""`<model>/answers/`: the greedy answer and its score."""

from vrp.tables.notes import NO_TOKENS, NON_FINITE, NON_FINITE_INSIDE
from vrp.tables.schema import (
    column,
    flag,
    integer,
    integers,
    number,
    numbers,
    optional,
    table,
    text,
)

ANSWERS = table(
    "answers",
    ("item_id",),
    column("item_id", text, "item"),
    column("answer", text, "greedy answer, decoded, without special tokens"),
    optional("parsed", text, "yes, no or the normalised answer; null: unparsed"),
    optional(
        "score",
        number,
        "1 or 0 for existence, VQA accuracy otherwise; null without a reference",
        unit="share",
    ),
    optional(
        "correct",
        flag,
        "score reaches the threshold, under the default parser; null without a reference",
    ),
    optional(
        "correct_official",
        flag,
        "correct under POPE's official parser; null for other tasks and without a reference",
    ),
    column("token_ids", integers, "answer tokens, EOS left out", shape="n_tokens"),
    column(
        "token_logprobs",
        numbers,
        "log-probability of each answer token from raw logits",
        unit="nats",
        shape="n_tokens",
    ),
    column("first_token_entropy", number, "entropy of the first answer token", unit="nats"),
    optional(
        "first_token_ids",
        integers,
        "likeliest first answer tokens, by id; null with a blank image",
        shape="n_first",
    ),
    optional(
        "first_token_logprobs", numbers, "their log-probabilities", unit="nats", shape="n_first"
    ),
    column("decision_margin", number, "top logit minus runner-up's, first token"),
    column(
        "close_choices",
        integer,
        "greedy tokens, EOS included, whose runner-up is within 1e-5, or the dtype's "
        "rounding, of the top logit",
        unit="tokens",
    ),
    column("n_prompt_tokens", integer, "prompt tokens, image tokens included"),
    column("n_image_tokens", integer, "image tokens"),
    optional(
        "note",
        text,
        f"why a value is missing: `{NO_TOKENS}`, `{NON_FINITE}`, `{NON_FINITE_INSIDE}`",
    ),
)

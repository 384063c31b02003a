"""`<model>/p_true/`: the model's own judgement of its answer."""

from vrp.tables.notes import NO_TOKENS, NON_FINITE
from vrp.tables.schema import column, number, optional, table, text

P_TRUE = table(
    "p_true",
    ("item_id",),
    column("item_id", text, "item"),
    column("question", text, "what the model was asked of its answer"),
    column(
        "p_true",
        number,
        "probability of yes, of yes and no, as the first token of the judgement",
    ),
    column("yes_no_mass", number, "probability of yes and no together"),
    optional("note", text, f"why there is no value: `{NO_TOKENS}`, `{NON_FINITE}`"),
)

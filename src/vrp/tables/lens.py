"""`<model>/lens/`: the answer as it forms, layer by layer, at `prompt_end`.

A column is null in every row where it was not captured (`vrp.tables.captured`).
"""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, integer, number, numbers, text

LENS = TableSchema(
    name="lens",
    key=("item_id",),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column(
                "truth_margin",
                numbers,
                "best logit of a token that starts the reference minus the best other; holds the "
                "label: a diagnostic, never a predictor",
                unit="logits",
                shape="n_layers",
                nullable=True,
            ),
            column(
                "decision_margin",
                numbers,
                "top logit minus the runner-up's, through the final norm",
                unit="logits",
                shape="n_layers",
                nullable=True,
            ),
            column("pair_top", integer, "token id of the last layer's top answer", nullable=True),
            column(
                "pair_runner_up", integer, "token id of the last layer's runner-up", nullable=True
            ),
            column(
                "embed_contribution",
                number,
                "embedding's share of the pair's logit difference",
                unit="logits",
                nullable=True,
            ),
            column(
                "attention_contribution",
                numbers,
                "each attention module's share of the pair's logit difference",
                unit="logits",
                shape="n_layers",
                nullable=True,
            ),
            column(
                "mlp_contribution",
                numbers,
                "each MLP's share of the pair's logit difference",
                unit="logits",
                shape="n_layers",
                nullable=True,
            ),
            column(
                "logit_difference",
                number,
                "the pair's logit difference",
                unit="logits",
                nullable=True,
            ),
            column(
                "residual_update",
                numbers,
                "norm of a layer's change to the residual, mean over image tokens",
                shape="n_layers",
                nullable=True,
            ),
            column("note", text, "why a value is missing", nullable=True),
        ]
    ),
)

"""`<model>/consistency/`: K sampled answers an item, and the distribution that they come from."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, flag, integer, number, numbers, text, texts

CONSISTENCY = TableSchema(
    name="consistency",
    key=("item_id",),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column("answers", texts, "sampled answers as decoded; none with a note", shape="k"),
            column("normalised", texts, "sampled answers, normalised", shape="k"),
            column(
                "self_consistency",
                number,
                "S_SC: share of the majority answer; NaN with a note",
                unit="share",
            ),
            column("majority", text, "majority answer; a tie goes to the one sampled first"),
            column("majority_correct", flag, "whether the majority answer is correct"),
            column(
                "close_draws",
                integer,
                "sampled tokens that rounding may turn: two candidates within 1e-5, or the dtype's "
                "rounding, of each other",
                unit="draws",
            ),
            column("note", text, "why an item has no samples", nullable=True),
            column(
                "exact_answers",
                texts,
                "normalised answers under temperature and top-p, likeliest first; null where the "
                "distribution was not followed",
                shape="n_answers",
                nullable=True,
            ),
            column(
                "exact_probabilities",
                numbers,
                "probability of each",
                shape="n_answers",
                nullable=True,
            ),
            column(
                "unresolved",
                number,
                "mass of beginnings under the floor, which were not followed",
                unit="share",
                nullable=True,
            ),
            *[
                column(
                    f"{name}_{end}", number, f"{what}, {bound} bound", unit="share", nullable=True
                )
                for name, what in (
                    ("majority_share", "share of the majority answer as K grows without limit"),
                    ("expected_consistency", "expected S_SC of K samples"),
                )
                for end, bound in (("low", "lower"), ("high", "upper"))
            ],
        ]
    ),
)

EXACT_COLUMNS = tuple(
    field.name for field in CONSISTENCY.columns if field.nullable and field.name != "note"
)
"""What is null where the distribution over answers was not followed."""

"""`<model>/consistency/`: K sampled answers an item, and the distribution that they come from."""

from vrp.tables.schema import column, flag, integer, number, numbers, optional, table, text, texts

CONSISTENCY = table(
    "consistency",
    ("item_id",),
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
    optional(
        "majority_correct", flag, "whether the majority answer is correct; null without a reference"
    ),
    column(
        "close_draws",
        integer,
        "sampled tokens that rounding may turn: two candidates within 1e-5, or the dtype's "
        "rounding, of each other",
        unit="draws",
    ),
    optional("note", text, "why an item has no samples"),
    optional(
        "exact_answers",
        texts,
        "normalised answers under temperature and top-p, likeliest first; null where the "
        "distribution was not followed",
        shape="n_answers",
    ),
    optional("exact_probabilities", numbers, "probability of each", shape="n_answers"),
    optional(
        "unresolved",
        number,
        "mass of beginnings that were not followed: under the floor, or beyond 12 for each token "
        "of the longest answer",
        unit="share",
    ),
    *[
        optional(f"{name}_{end}", number, f"{what}, {bound} bound", unit="share")
        for name, what in (
            ("majority_share", "share of the majority answer as K grows without limit"),
            ("expected_consistency", "expected S_SC of K samples"),
        )
        for end, bound in (("low", "lower"), ("high", "upper"))
    ],
)

EXACT_COLUMNS = tuple(
    field.name for field in CONSISTENCY.columns if field.nullable and field.name != "note"
)
"""What is null where the distribution over answers was not followed."""

"""`effects.parquet`: what each intervention does to accuracy."""

from vrp.tables.schema import column, integer, numbers, optional, precise, table, text

OBJECT_IDENTIFICATION = "object_identification"
"""Scope of the existence items that are right at baseline."""

EFFECTS = table(
    "effects",
    ("model", "intervention", "condition", "scope"),
    column(
        "model",
        text,
        "model, or `a - b`: the effect on a minus that on b, item by item, which tests whether it "
        "depends on the model",
    ),
    column("intervention", text, "mask or ablate"),
    column(
        "condition",
        text,
        "a condition (random ones averaged over seeds), or `top_30 - random_30`: the "
        "specificity as its own estimate; intervals and tests of sets of neurons are at least as "
        "wide as the spread between random sets makes them",
    ),
    column(
        "scope",
        text,
        f"a task, `task: form` where a task mixes forms of answers, `all`, `macro`, or "
        f"`{OBJECT_IDENTIFICATION}` (existence items right at baseline: can only fall)",
    ),
    column("n", integer, "items"),
    column("n_groups", integer, "images"),
    column(
        "baseline",
        precise,
        "accuracy under `sham`, which changes nothing, in the same batches; of `sham`: of the "
        "extraction's answers; of a contrast: under the control",
        unit="share",
    ),
    column("accuracy", precise, "accuracy under the condition", unit="share"),
    column("effect", precise, "paired difference", unit="percentage points"),
    column("low", precise, "lower end of the 95% interval", unit="percentage points"),
    column("high", precise, "upper end of the 95% interval", unit="percentage points"),
    column("se", precise, "standard error; NaN: nothing varies", unit="percentage points"),
    column("df", precise, "degrees of freedom of Student's t"),
    column("p", precise, "sign-flip test on per-image net differences; NaN: not tested"),
    column("p_adjusted", precise, "after Holm's correction within model, intervention and scope"),
    column("p_mcnemar", precise, "exact McNemar test, for comparison"),
    column("p_equivalence", precise, "two one-sided tests against the margin"),
    column("p_equivalence_adjusted", precise, "the same after Holm's correction"),
    column(
        "resolvable",
        precise,
        "smallest effect that the design finds with 80% power",
        unit="percentage points",
    ),
    column("changed", precise, "answers that changed", unit="share"),
    column("gained", precise, "items right under the condition alone", unit="share"),
    column("lost", precise, "items right without it alone", unit="share"),
    column(
        "margin",
        precise,
        "mean change of the decision margin; NaN where it is not known",
        unit="logits",
    ),
    column("margin_low", precise, "lower end of its 95% interval", unit="logits"),
    column("margin_high", precise, "upper end of its 95% interval", unit="logits"),
    column(
        "to_blank",
        precise,
        "of a masking: accuracy minus that with a blank image, on the items of both; below 0, "
        "hiding disturbs more than the lost information explains; NaN: nothing to compare with",
        unit="percentage points",
    ),
    column("to_blank_low", precise, "lower end of its 95% interval", unit="percentage points"),
    column("to_blank_high", precise, "upper end of its 95% interval", unit="percentage points"),
    column(
        "per_seed",
        numbers,
        "effect of every seed of a random condition",
        unit="percentage points",
        shape="n_seeds",
    ),
    optional(
        "place",
        integer,
        "of a set of neurons among its random controls, the most harmful first; null: no sets",
    ),
    optional("note", text, "why there is no interval or test"),
)

"""`<model>/metrics.parquet` and `<model>/probes.parquet`: numbers with their uncertainty."""

from vrp.tables.schema import TableSchema, column, integer, optional, precise, table, text

NOT_A_LAYER = -1
"""Value of the column `layer` where an estimate belongs to no single layer."""
WITHIN_STRATA = "within_strata"
"""Scope of the headline: within task × answer form, combined with van Elteren's weights."""
WITHIN_ANSWERS = "within_answers"
"""Scope: within task × answer form × emitted answer, combined in the same way."""
WITHIN_AGREEMENT = "within_agreement"
"""Scope: within strata and thirds of the annotators' agreement."""
WITHIN_QUESTION_SCORE = "within_question_score"
"""Scope: within strata and thirds of the score that the question's words alone give."""
MACRO = "macro"
"""Scope: the unweighted mean over tasks."""
POOLED = "pooled"
"""Scope: all items together."""

OBJECT_EXCESS = "attention_minus_area"
"""Metric: attention on the object that is asked for, minus the object's area."""
OBJECT_AREA = "area"
"""Metric: area of the object that is asked for, as a share of the image's."""


def estimates_table(name: str) -> TableSchema:
    """The shared shape of every table of estimates."""
    return table(
        name,
        ("predictor", "layer", "scope", "metric"),
        column("predictor", text, "signal or probe"),
        column("layer", integer, "decoder layer; -1 where it does not apply"),
        column(
            "scope",
            text,
            "`within_strata`: within task and answer form, weighted; `within_answers`: within "
            "these and the emitted answer; `within_agreement`, `within_question_score`: within "
            "strata and thirds of difficulty; a task, or a split of a data set; `task: form`; "
            "`macro`: mean over tasks; "
            "`pooled`; `answer_yes`, `answer_no`: existence items with that answer",
        ),
        column(
            "metric",
            text,
            "auroc, r, accuracy, r2, precision …; `prr`: prediction rejection ratio; "
            "`accuracy_at_80`: of the 80% of items answered first, the most confident; "
            "`attention_minus_area`: share of attention on the object, minus the object's area",
        ),
        column("value", precise, "the estimate; NaN where it is undefined (see note)"),
        column("low", precise, "lower end of the 95% interval"),
        column("high", precise, "upper end of the 95% interval"),
        column("se", precise, "standard error of the test, clustered by image; NaN: none"),
        column("df", precise, "degrees of freedom of Student's t"),
        column("p", precise, "two-sided p-value; NaN where none is meant"),
        column("p_adjusted", precise, "after Holm's correction within scope and metric"),
        column("p_equivalence", precise, "two one-sided tests against the margin"),
        column("p_equivalence_adjusted", precise, "the same after Holm's correction"),
        column(
            "resolvable",
            precise,
            "smallest distance from no effect that the design finds with 80% power",
        ),
        column("n", integer, "items"),
        column("n_groups", integer, "images"),
        column("n_dropped", integer, "items left out (see note)"),
        column("method", text, "how the interval was made"),
        optional("note", text, "why items were dropped or a value is missing"),
    )


METRICS = estimates_table("metrics")
PROBES = estimates_table("probes")

"""Why values of an item are missing, as the tables' notes and the report say it."""

NON_FINITE = "non-finite activations"
"""Its logits are not finite: it has no answer, and none of its values counts."""
NON_FINITE_INSIDE = "non-finite values inside the model"
"""Its answer's logits are finite, but not all that was captured of it is."""
NO_TOKENS = "zero-token answer"
"""Its answer ended before the first token."""

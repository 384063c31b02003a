"""The explorer's rules, on answers whose flags are worked out by hand."""

import numpy as np
import polars as pl

from vrp.explorer.rules import UNKNOWN, AnswerFacts, Rule


def test_rules_are_pairs_of_conditions():
    rows = pl.DataFrame(
        {
            "task": ["a"] * 5 + ["b"] * 4,
            "form": ["number"] * 9,
            "correct": [True, False, False, True, None, True, False, True, False],
            "signal token_confidence": [9.0, 8.0, 1.0, 2.0, 7.0, 0.1, 0.4, 0.2, None],
        }
    )
    facts = AnswerFacts(rows, np.full(9, np.nan))
    # Upper quartiles: 8 of the first stratum, 0.3 of the second.
    high = facts.beyond_quartile("token_confidence", low=False)
    np.testing.assert_array_equal(high, [1, 1, 0, 0, 0, 0, 1, 0, np.nan])
    low = facts.beyond_quartile("token_confidence", low=True)
    np.testing.assert_array_equal(low, [0, 0, 1, 1, 0, 1, 0, 0, np.nan])
    rule = Rule("r", "", "", lambda one: high, lambda one: 1 - one.column("correct"))
    assert rule.flags(facts).tolist() == [1, 3, 2, 0, UNKNOWN, 0, 3, 0, UNKNOWN]


def test_a_condition_that_is_not_known_leaves_the_rule_open():
    rows = pl.DataFrame({"task": ["a"], "form": ["other"], "correct": [True]})
    facts = AnswerFacts(rows, np.array([np.nan]))
    rule = Rule("r", "", "", lambda one: one.changed, lambda one: one.column("correct"))
    assert rule.flags(facts).tolist() == [UNKNOWN]
    assert np.isnan(facts.beyond_quartile("spatial_entropy", low=True)).all()

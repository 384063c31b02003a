"""The explorer's rules, on answers whose flags are worked out by hand."""

import numpy as np
import polars as pl
import pytest

from vrp.explorer.rules import RULES, UNKNOWN, AnswerFacts, Rule


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
    # Seven are judged and have a value: 0.1, 0.2, 0.4, 1, 2, 8, 9; the quartiles are 0.3 and 5.
    high = facts.beyond_quartile("token_confidence", low=False)
    np.testing.assert_array_equal(high, [1, 1, 0, 0, np.nan, 0, 0, 0, np.nan])
    low = facts.beyond_quartile("token_confidence", low=True)
    np.testing.assert_array_equal(low, [0, 0, 0, 0, np.nan, 1, 0, 1, np.nan])
    rule = Rule("r", "", "", lambda one: high, lambda one: 1 - one.column("correct"))
    assert rule.flags(facts).tolist() == [1, 3, 2, 0, UNKNOWN, 0, 2, 0, UNKNOWN]


@pytest.mark.parametrize(
    ("name", "signal", "flags"),
    [
        # The model is unsure of all answers to task b: the surest of them is not sure, and only
        # the least sure of all are unsure. Quartiles: −1.75 and −0.175.
        ("confident_wrong", "token_confidence", [1, 1, 0, 0, 2, 2, 0, 2]),
        ("unsure_right", "token_confidence", [2, 2, 2, 2, 0, 0, 3, 1]),
        # A map of low entropy is sharp.
        ("sharp_wrong", "spatial_entropy", [0, 0, 0, 0, 2, 2, 1, 3]),
        ("diffuse_right", "spatial_entropy", [3, 3, 2, 2, 0, 0, 2, 0]),
    ],
)
def test_high_and_low_are_meant_among_all_answers_of_the_model(name, signal, flags):
    rows = pl.DataFrame(
        {
            "task": ["a"] * 4 + ["b"] * 4,
            "form": ["number"] * 8,
            "correct": [True, True, True, True, False, False, True, False],
            f"signal {signal}": [-0.1, -0.1, -0.2, -0.3, -1.5, -1.6, -2.2, -2.5],
        }
    )
    (rule,) = (one for one in RULES if one.name == name)
    assert rule.flags(AnswerFacts(rows, np.full(8, np.nan))).tolist() == flags
    assert "all judged answers of the model" in rule.description


def test_a_condition_that_is_not_known_leaves_the_rule_open():
    rows = pl.DataFrame({"task": ["a"], "form": ["other"], "correct": [True]})
    facts = AnswerFacts(rows, np.array([np.nan]))
    rule = Rule("r", "", "", lambda one: one.changed, lambda one: one.column("correct"))
    assert rule.flags(facts).tolist() == [UNKNOWN]
    assert np.isnan(facts.beyond_quartile("spatial_entropy", low=True)).all()

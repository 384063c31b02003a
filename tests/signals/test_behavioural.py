import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrp.signals import behavioural


def test_self_consistency_hand_worked():
    assert behavioural.self_consistency(["yes", "no", "yes", "yes"]) == (0.75, "yes")


def test_ties_go_to_the_answer_sampled_first():
    assert behavioural.self_consistency(["b", "a", "a", "b"]) == (0.5, "b")
    assert behavioural.self_consistency(["c", "b", "a", "a", "b"]) == (0.4, "b")


def test_self_consistency_needs_a_sequence_of_answers():
    for nothing in ([], "yes"):
        with pytest.raises(ValueError, match="answer"):
            behavioural.self_consistency(nothing)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_self_consistency_against_plain_counting(answers):
    score, majority = behavioural.self_consistency(answers)
    counts = [(answers.count(answer), -answers.index(answer), answer) for answer in set(answers)]
    best = max(counts)
    assert majority == best[2]
    assert score == best[0] / len(answers)


def test_token_confidence():
    assert behavioural.token_confidence([-0.5, -1.5]) == pytest.approx(-1.0)
    assert math.isnan(behavioural.token_confidence([]))
    assert math.isnan(behavioural.token_confidence([-0.5, np.nan]))
    with pytest.raises(ValueError, match="positive"):
        behavioural.token_confidence([0.9])
    with pytest.raises(ValueError, match="one answer"):
        behavioural.token_confidence([[-0.5], [-0.5]])

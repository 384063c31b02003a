import math

import numpy as np
import pytest
import scipy.stats
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


def test_logit_entropy_of_known_distributions():
    assert behavioural.logit_entropy(np.full(32000, 7.5)) == pytest.approx(math.log(32000))
    assert behavioural.logit_entropy([0.0, 1000.0]) == pytest.approx(0.0)
    assert behavioural.logit_entropy([3.0, 3.0, -np.inf]) == pytest.approx(math.log(2))


def test_logit_entropy_agrees_with_scipy():
    logits = np.random.default_rng(0).normal(scale=4, size=(5, 3, 200))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        behavioural.logit_entropy(logits), scipy.stats.entropy(probabilities, axis=-1)
    )


def test_logit_entropy_of_non_finite_logits_is_nan():
    bad = [[1.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf], [0.0, 0.0]]
    assert np.isnan(behavioural.logit_entropy(bad)).tolist() == [True, True, True, False]

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

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


def test_semantic_entropy_by_hand_and_scipy():
    # Three of four one way: −(¾ ln ¾ + ¼ ln ¼).
    sampled = behavioural.semantic_entropy(["a", "b", "a", "a"])
    assert sampled == pytest.approx(0.5623351, abs=1e-7)
    assert behavioural.semantic_entropy(["a"] * 10) == 0.0
    known = [0.5, 0.3, 0.1]
    assert behavioural.exact_semantic_entropy(known, 0.1) == pytest.approx(entropy([*known, 0.1]))
    assert behavioural.exact_semantic_entropy([1.0, 0.0], 0.0) == 0.0
    with pytest.raises(ValueError, match="answer"):
        behavioural.semantic_entropy([])


def test_probability_margin_from_a_softmax():
    logits = np.array([[2.0, 1.5, -1.0], [0.0, -9.0, -9.0]])
    probability = softmax(logits, axis=1)
    margin = behavioural.probability_margin(np.log(probability[:, 0]), logits[:, 0] - logits[:, 1])
    assert margin == pytest.approx(probability[:, 0] - probability[:, 1], abs=1e-12)


def test_first_token_divergence_is_scipys_distance():
    random = np.random.default_rng(0)
    whole = softmax(random.normal(size=(2, 5, 9)) * 2, axis=-1)
    listed, rest = whole[..., :6], whole[..., 6:].sum(axis=-1, keepdims=True)
    found = behavioural.first_token_divergence(*np.log(listed))
    first, second = np.append(listed, rest, axis=-1)
    assert found == pytest.approx(jensenshannon(first, second, axis=-1), abs=1e-12)
    # What the lumped tokens hide is bounded by their mass.
    exact = jensenshannon(*whole, axis=-1)
    assert (found <= exact + 1e-12).all()
    missed = exact**2 - found**2
    assert (missed <= math.log(2) * rest.max(axis=0)[:, 0]).all()
    same = behavioural.first_token_divergence(*np.log(listed[[0, 0]]))
    assert (same == 0).all()


def test_probabilities_of_the_whole_answer_and_of_its_weakest_token():
    logprobs = np.log([0.5, 0.25, 0.8])
    assert np.exp(behavioural.sequence_log_probability(logprobs)) == pytest.approx(0.1)
    assert np.exp(behavioural.least_token_log_probability(logprobs)) == pytest.approx(0.25)
    for signal in (
        behavioural.sequence_log_probability, behavioural.least_token_log_probability
    ):  # fmt: skip
        assert math.isnan(signal([]))
        assert math.isnan(signal([-0.5, math.nan]))
        with pytest.raises(ValueError, match="positive"):
            signal([0.9])

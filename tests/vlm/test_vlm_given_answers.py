"""Probability of an answer that was given elsewhere: against one forward over prompt and answer."""

import numpy as np
import pytest
from scipy.special import log_softmax

from vrp.vlm.batching import GivenAnswer
from vrp.vlm.decode import CaptureSpec, run_batch

ANSWERS = [(9, 5, 7), (), (12,), (20, 21), (8, 8, 8, 8, 8), (), (3, 9), (11,)]
FIRST = (4, 17, 9)


@pytest.fixture
def given(items):
    """Eight items, each with an answer of another length to be scored; one has none."""
    answers = [GivenAnswer(ids, FIRST) for ids in ANSWERS]
    return [
        item._replace(given=None if place == 5 else answers[place])
        for place, item in enumerate(items)
    ]


def test_log_probabilities_are_those_of_one_forward(vlm, given, reference):
    captures = run_batch(vlm, given, max_new_tokens=4)
    for item, ids, capture in zip(given, ANSWERS, captures, strict=True):
        if item.given is None:
            assert capture.given is None
            continue
        forward = reference.forward(item, ids)
        log_p = log_softmax(forward.logits.astype(np.float64), axis=-1)[forward.n_prompt - 1 :]
        expected = [log_p[step, token] for step, token in enumerate(ids)]
        np.testing.assert_allclose(capture.given.tokens, expected, atol=2e-4)
        np.testing.assert_allclose(capture.given.first, log_p[0, list(FIRST)], atol=2e-4)


def test_the_models_own_answer_and_what_is_read_of_it_stay_as_they_are(vlm, items, given):
    spec = CaptureSpec(hidden=("prompt_end", "answer_end"), attention=True)
    alone = run_batch(vlm, items, spec, max_new_tokens=4)
    beside = run_batch(vlm, given, spec, max_new_tokens=4)
    for one, other in zip(alone, beside, strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_array_equal(one.token_logprobs, other.token_logprobs)
        np.testing.assert_array_equal(one.attention, other.attention)
        for position in spec.hidden:
            np.testing.assert_array_equal(one.hidden[position], other.hidden[position])


def test_an_answer_scored_under_its_own_prompt_has_the_probabilities_it_was_given(vlm, items):
    answered = run_batch(vlm, items, CaptureSpec(first_tokens=True), max_new_tokens=4)
    again = [
        item._replace(given=GivenAnswer(capture.token_ids, tuple(capture.first_token_ids)))
        for item, capture in zip(items, answered, strict=True)
    ]
    for one, other in zip(answered, run_batch(vlm, again, max_new_tokens=4), strict=True):
        np.testing.assert_allclose(other.given.tokens, one.token_logprobs, atol=1e-5)
        np.testing.assert_allclose(other.given.first, one.first_token_logprobs, atol=1e-6)


def test_the_likeliest_first_tokens_are_kept_by_id(vlm, items, reference):
    [capture] = run_batch(vlm, items[:1], CaptureSpec(first_tokens=True), max_new_tokens=1)
    forward = reference.forward(items[0], (5,))
    log_p = log_softmax(forward.logits[forward.n_prompt - 1].astype(np.float64))
    likeliest = np.sort(np.argsort(-log_p)[:64])
    assert capture.first_token_ids.tolist() == likeliest.tolist()
    np.testing.assert_allclose(capture.first_token_logprobs, log_p[likeliest], atol=2e-4)

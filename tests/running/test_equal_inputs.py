"""One run for all items that ask a model the same thing."""

import random

import numpy as np
import pytest
from hand_made_captures import capture

from vrp.running.equal_inputs import alike, result_of
from vrp.vlm.batching import GivenAnswer
from vrp.vlm.given_answers import GivenLogprobs

YES, NO = (3,), (4,)


def test_items_with_the_same_input_and_answer_are_run_once():
    inputs = {"d": "Is it red?", "a": "Is it red?", "b": "Is it red?", "c": "Is it blue?"}
    given = {"a": GivenAnswer(YES, (1, 3)), "b": GivenAnswer(NO, (3, 4)),
             "c": GivenAnswer(YES, (3,)), "d": GivenAnswer(YES, (3, 9))}  # fmt: skip
    runs = alike(inputs, given)
    assert runs == {
        "a": (GivenAnswer(YES, (1, 3, 9)), ("a", "d")),  # the first tokens of both are scored
        "b": (GivenAnswer(NO, (3, 4)), ("b",)),
        "c": (GivenAnswer(YES, (3,)), ("c",)),
    }


def test_the_order_of_the_items_changes_nothing():
    inputs = {f"{i:02d}": f"question {i % 3}" for i in range(40)}
    given = {item_id: GivenAnswer((int(item_id) % 2,), (5,)) for item_id in inputs}
    shuffled = list(inputs)
    random.Random(0).shuffle(shuffled)
    again = alike({item_id: inputs[item_id] for item_id in shuffled}, given)
    assert again == alike(inputs, given)


def test_one_run_serves_a_bounded_number_of_items():
    inputs = {f"{i:02d}": "the same" for i in range(40)}
    runs = alike(inputs, dict.fromkeys(inputs, GivenAnswer(YES, YES)), most=16)
    assert [len(ids) for _, ids in runs.values()] == [16, 16, 8]
    assert sorted(item_id for _, ids in runs.values() for item_id in ids) == sorted(inputs)


def test_each_item_gets_the_probabilities_of_its_own_first_tokens():
    logprobs = np.array([-1.0, -3.0, -9.0], dtype=np.float32)
    run = capture("a", given=GivenLogprobs(np.array([-3.0], dtype=np.float32), logprobs))
    own = result_of(run, GivenAnswer(YES, (1, 3, 9)), "d", GivenAnswer(YES, (9, 1)))
    assert own.item_id == "d"
    assert own.given is not None
    assert own.given.first.tolist() == [-9.0, -1.0]
    assert own.given.tokens.tolist() == [-3.0]


def test_a_run_without_a_score_is_refused():
    with pytest.raises(ValueError, match="scored no given answer"):
        result_of(capture("a"), GivenAnswer(YES, YES), "d", GivenAnswer(YES, YES))

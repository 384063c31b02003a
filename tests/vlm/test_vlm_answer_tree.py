"""The distribution of answers equals enumeration, and samples are draws from it."""

import weakref

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from vrp.errors import InputError
from vrp.vlm import answer_distribution
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.decode import prepare, run_batch
from vrp.vlm.prefill import Decoder

RULE = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 3}
FLOOR = 0.02


def enumerate_answers(vlm, reference, item, tokens=(), probability=1.0):
    """Every answer above the floor by whole eager forwards: {tokens: probability}, rest."""
    logits = torch.tensor(reference.forward(item, tokens).logits[-1][None])
    scores = TopPLogitsWarper(0.9)(None, TemperatureLogitsWarper(0.7)(None, logits))
    found, rest = {}, 0.0
    for token, chance in enumerate(scores.softmax(-1)[0].double().tolist()):
        joint = probability * chance
        if token in vlm.eos_token_ids:
            if joint:
                found[tokens] = found.get(tokens, 0.0) + joint
        elif joint < FLOOR:
            rest += joint
        elif len(tokens) + 1 == RULE["max_new_tokens"]:
            found[*tokens, token] = joint
        else:
            deeper = enumerate_answers(vlm, reference, item, (*tokens, token), joint)
            found |= deeper[0]
            rest += deeper[1]
    return found, rest


@pytest.mark.slow
def test_the_distribution_equals_enumeration(vlm, reference, items):
    found = sample_answers(vlm, items, floor=FLOOR, **RULE)
    for item, answer in zip(items[:3], found, strict=False):
        expected, rest = enumerate_answers(vlm, reference, item)
        distribution = answer.distribution
        assert distribution.unresolved == pytest.approx(rest, abs=1e-5)
        assert sorted(distribution.probabilities) == pytest.approx(
            sorted(expected.values()), abs=1e-5
        )
        texts = vlm.decode(list(expected))
        assert sorted(distribution.answers) == sorted(texts)
        assert answer.answers == ()


def test_all_mass_is_accounted_for(vlm, items):
    for floor in (0.3, 0.01, 1e-4):
        for answer in sample_answers(vlm, items, floor=floor, **RULE):
            distribution = answer.distribution
            total = sum(distribution.probabilities) + distribution.unresolved
            assert total == pytest.approx(1, abs=1e-12)
            assert list(distribution.probabilities) == sorted(
                distribution.probabilities, reverse=True
            )


def test_a_lower_floor_resolves_more(vlm, items):
    coarse = sample_answers(vlm, items, floor=0.2, **RULE)
    fine = sample_answers(vlm, items, floor=1e-3, **RULE)
    for one, other in zip(coarse, fine, strict=True):
        assert other.distribution.unresolved <= one.distribution.unresolved


def test_samples_and_distribution_do_not_disturb_each_other(vlm, items):
    both = sample_answers(vlm, items, k=6, seed=11, floor=FLOOR, **RULE)
    samples = sample_answers(vlm, items, k=6, seed=11, **RULE)
    alone = sample_answers(vlm, items, floor=FLOOR, **RULE)
    for together, sampled, followed in zip(both, samples, alone, strict=True):
        assert together.token_ids == sampled.token_ids
        assert sampled.distribution is None
        assert together.distribution.answers == followed.distribution.answers
        assert together.distribution.probabilities == pytest.approx(
            followed.distribution.probabilities, abs=1e-6
        )


def test_the_distribution_does_not_depend_on_the_batch(vlm, items):
    together = sample_answers(vlm, items, floor=FLOOR, **RULE)
    for item, expected in zip(items, together, strict=True):
        [alone] = sample_answers(vlm, prepare(vlm, [item]), floor=FLOOR, **RULE)
        assert alone.distribution.answers == expected.distribution.answers
        assert alone.distribution.probabilities == pytest.approx(
            expected.distribution.probabilities, abs=1e-5
        )


@pytest.mark.slow
def test_many_branches_are_decoded_part_by_part(vlm, items, monkeypatch):
    whole = sample_answers(vlm, items, k=6, seed=11, floor=1e-3, **RULE)
    rows = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        rows.append(len(input_ids))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    monkeypatch.setattr(answer_distribution, "ROWS_AN_ITEM", 1)
    parts = sample_answers(vlm, items, k=6, seed=11, floor=1e-3, **RULE)
    assert max(rows) == len(items)
    assert len(rows) > 5
    for one, other in zip(whole, parts, strict=True):
        assert one.token_ids == other.token_ids
        assert one.distribution.answers == other.distribution.answers
        assert one.distribution.probabilities == pytest.approx(
            other.distribution.probabilities, abs=1e-5
        )
        assert one.distribution.unresolved == pytest.approx(other.distribution.unresolved, abs=1e-5)


def test_a_vanishing_nucleus_leaves_the_greedy_answer(vlm, items):
    greedy = run_batch(vlm, items, max_new_tokens=3)
    followed = sample_answers(vlm, items, temperature=0.7, top_p=1e-9, max_new_tokens=3, floor=0.5)
    for one, other in zip(greedy, followed, strict=True):
        assert other.distribution == ((one.answer,), (1.0,), 0.0)


@pytest.mark.parametrize("floor", [0.0, 1.0, -0.1])
def test_a_floor_out_of_range_is_refused(vlm, items, floor):
    with pytest.raises(InputError, match="floor"):
        sample_answers(vlm, items, floor=floor, **RULE)


class CountedDecoders:
    """Rows whose cache is in memory, and forwards, while answers grow."""

    def __init__(self, monkeypatch):
        self.alive, self.most_rows, self.n_rows = weakref.WeakSet(), 0, 0
        for name in ("prefill", "step", "select"):
            monkeypatch.setattr(
                answer_distribution.Decoder, name, self.counted(getattr(Decoder, name))
            )
        fork = Decoder.fork
        monkeypatch.setattr(
            answer_distribution.Decoder, "fork", lambda one: self.watched(fork(one))
        )

    def watched(self, decoder):
        self.alive.add(decoder)
        return decoder

    def counted(self, method):
        def call(decoder, *args):
            result = method(self.watched(decoder), *args)
            caches = [one.cache.layers[0].keys for one in self.alive if one.cache is not None]
            distinct = {keys.data_ptr(): len(keys) for keys in caches}
            self.most_rows = max(self.most_rows, sum(distinct.values()))
            if method.__name__ == "step":
                self.n_rows += len(result)
            return result

        return call


@pytest.mark.slow
@pytest.mark.parametrize("floor", [None, 1e-3])
def test_no_more_is_cached_than_planned_however_long_answers_are(vlm, items, monkeypatch, floor):
    """Of random weights nothing is resolved: any token may follow any other."""
    counted = CountedDecoders(monkeypatch)
    rule = RULE | {"temperature": 2.0, "top_p": 1.0, "max_new_tokens": 24}
    found = sample_answers(vlm, items, k=10, floor=floor, **rule)
    planned = 1 + answer_distribution.ROWS_AN_ITEM
    assert counted.most_rows <= planned * len(items)
    # Samples alone take ten rows a step; the distribution at most as many again, and a few more.
    assert counted.n_rows <= 24 * len(items) * (
        10 + (answer_distribution._FOLLOWED_A_TOKEN if floor else 0)
    )
    if floor:
        for answer in found:
            distribution = answer.distribution
            total = sum(distribution.probabilities) + distribution.unresolved
            assert total == pytest.approx(1, abs=1e-12)


def test_samples_are_the_same_where_the_distribution_is_given_up(vlm, items, monkeypatch):
    rule = RULE | {"temperature": 2.0, "top_p": 1.0, "max_new_tokens": 12}
    alone = sample_answers(vlm, items, k=5, seed=3, **rule)
    monkeypatch.setattr(answer_distribution, "_FOLLOWED_A_TOKEN", 1)
    both = sample_answers(vlm, items, k=5, seed=3, floor=1e-3, **rule)
    assert [one.token_ids for one in both] == [one.token_ids for one in alone]
    assert all(one.distribution.unresolved > 0.5 for one in both)


def test_the_likeliest_beginnings_are_followed_first(vlm, items, monkeypatch):
    whole = sample_answers(vlm, items, floor=1e-3, **RULE)
    monkeypatch.setattr(answer_distribution, "_FOLLOWED_A_TOKEN", 2)
    found = sample_answers(vlm, items, floor=1e-3, **RULE)
    for one, other in zip(found, whole, strict=True):
        n = len(one.distribution.answers)
        assert 0 < n < len(other.distribution.answers)
        assert one.distribution.unresolved > other.distribution.unresolved
        assert set(one.distribution.answers) <= set(other.distribution.answers)

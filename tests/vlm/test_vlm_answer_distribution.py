"""Shared prefixes give what separate runs give; noise is what it is keyed by."""

import inspect
import weakref

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from vrp.errors import InputError
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.decode import prepare, run_batch
from vrp.vlm.nucleus_sampling import gumbel_noise, noise_key
from vrp.vlm.prefill import Decoder

SETTINGS = {"k": 6, "temperature": 0.7, "top_p": 0.9, "seed": 11, "max_new_tokens": 3}


def _warped(logits: np.ndarray) -> np.ndarray:
    """Probabilities under transformers' own temperature and top-p."""
    scores = torch.tensor(logits[None])
    scores = TemperatureLogitsWarper(0.7)(None, scores)
    scores = TopPLogitsWarper(0.9)(None, scores)
    return scores.softmax(-1)[0].double().numpy()


@pytest.mark.slow
def test_samples_equal_separate_runs_with_the_same_noise(vlm, reference, items):
    found = sample_answers(vlm, items, **SETTINGS)
    for item, samples in zip(items[:3], found, strict=False):
        for sample in range(4):
            expected = _separate_run(vlm, reference, item, sample)
            assert samples.token_ids[sample] == expected


def _separate_run(vlm, reference, item, sample):
    """One sample by itself: a whole eager forward a token, noise for the whole vocabulary."""
    tokens: tuple[int, ...] = ()
    for step in range(SETTINGS["max_new_tokens"]):
        probabilities = _warped(reference.forward(item, tokens).logits[-1].astype(np.float64))
        key = noise_key(SETTINGS["seed"], item.item_id, sample, step)
        noise = gumbel_noise([key], np.arange(len(probabilities)))[0]
        # The largest p·exp(noise), which has the largest log p + noise.
        token = int((probabilities * np.exp(noise)).argmax())
        if token in vlm.eos_token_ids:
            break
        tokens = (*tokens, token)
    return tokens


def test_samples_do_not_depend_on_batch_order_or_k(vlm, items):
    together = {s.item_id: s for s in sample_answers(vlm, items, **SETTINGS)}
    for item in reversed(items):
        [alone] = sample_answers(vlm, [item], **SETTINGS)
        assert alone == together[item.item_id]
    [fewer] = sample_answers(vlm, items[:1], **{**SETTINGS, "k": 3})
    assert fewer.answers == together["item-0"].answers[:3]


@pytest.mark.slow
def test_rounding_changes_no_sample_without_a_close_draw(vlm, items, monkeypatch):
    """Logits that move by 2e-6 at random, as another kernel's sums may."""
    settings = {**SETTINGS, "k": 100, "max_new_tokens": 2}
    before = sample_answers(vlm, items, **settings)
    generator = torch.Generator().manual_seed(3)
    for name in ("prefill", "step"):
        exact = getattr(Decoder, name)

        def rounded(self, *args, exact=exact):
            logits = exact(self, *args)
            return logits + 4e-6 * (torch.rand(logits.shape, generator=generator) - 0.5)

        monkeypatch.setattr(Decoder, name, rounded)
    after = sample_answers(vlm, items, **settings)
    for one, other in zip(before, after, strict=True):
        changed = sum(a != b for a, b in zip(one.token_ids, other.token_ids, strict=True))
        assert changed <= min(one.close_draws, other.close_draws)
    assert sum(samples.close_draws for samples in before) < 10  # of at least 800


def test_choices_between_twins_are_close(vlm, items, overwritten):
    """Every token has a twin with the same logit."""
    weight = vlm.lm_head.weight.detach().clone()
    half = len(weight) // 2
    weight[half : 2 * half] = weight[:half]
    with overwritten(vlm.lm_head.weight, weight):
        greedy = run_batch(vlm, items, max_new_tokens=3)
        nucleus_of_one = sample_answers(vlm, items, **{**SETTINGS, "top_p": 1e-9})
    for one, other in zip(greedy, nucleus_of_one, strict=True):
        n_choices = len(one.token_ids) + one.finished
        assert one.close_choices == n_choices
        # The twin may take the only place in the nucleus.
        assert other.close_draws == SETTINGS["k"] * n_choices


def test_another_seed_gives_other_samples(vlm, items):
    one = sample_answers(vlm, items, **SETTINGS)
    two = sample_answers(vlm, items, **{**SETTINGS, "seed": 12})
    assert [s.token_ids for s in one] != [s.token_ids for s in two]


def test_a_prepared_batch_can_be_sampled_again(vlm, items):
    prepared = prepare(vlm, items)
    assert sample_answers(vlm, prepared, **SETTINGS) == sample_answers(vlm, items, **SETTINGS)
    assert sample_answers(vlm, prepared, **SETTINGS) == sample_answers(vlm, prepared, **SETTINGS)


def test_a_vanishing_nucleus_is_the_greedy_answer(vlm, items):
    greedy = run_batch(vlm, items, max_new_tokens=3)
    sampled = sample_answers(vlm, items, **{**SETTINGS, "k": 2, "top_p": 1e-9})
    for one, other in zip(greedy, sampled, strict=True):
        assert other.token_ids == (one.token_ids,) * 2
        assert other.answers == (one.answer,) * 2


def test_first_tokens_follow_the_nucleus(vlm, reference, items):
    n_samples = 1500
    drawn = sample_answers(
        vlm, items[:1], k=n_samples, temperature=0.7, top_p=0.9, seed=5, max_new_tokens=1
    )[0]
    expected = _warped(reference.forward(items[0], ()).logits[-1].astype(np.float64)) * n_samples
    firsts = [ids[0] if ids else vlm.eos_token_ids[0] for ids in drawn.token_ids]
    observed = np.bincount(firsts, minlength=len(expected))
    assert observed[expected == 0].sum() == 0
    common = expected >= 8
    rest = (observed[~common].sum(), expected[~common].sum())
    counts = np.append(observed[common], rest[0])
    wanted = np.append(expected[common], rest[1])
    keep = wanted > 0
    assert chisquare(counts[keep], wanted[keep]).pvalue > 1e-3


def test_shared_prefixes_are_decoded_once(vlm, items, monkeypatch):
    rows = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        rows.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    samples = sample_answers(vlm, items, **SETTINGS)
    prompts = [shape for shape in rows if shape[1] > 1]
    assert prompts[-1][0] == len(items)  # one prefill, not K
    rows = [shape for shape in rows if shape[1] == 1]
    for step in (1, 2):
        prefixes = {(s.item_id, t[:step]) for s in samples for t in s.token_ids if len(t) >= step}
        assert rows[step - 1] == (len(prefixes), 1)


@pytest.mark.parametrize("change", [{"k": 0}, {"temperature": 0.0}, {"top_p": 1.5}])
def test_parameters_out_of_range_are_refused(vlm, items, change):
    with pytest.raises(InputError, match=next(iter(change))):
        sample_answers(vlm, items, **{**SETTINGS, **change})


def test_non_finite_logits_leave_an_item_without_answers(vlm, items, overwritten):
    with overwritten(vlm.lm_head.weight, float("inf")):
        for answer in sample_answers(vlm, items, floor=0.1, **SETTINGS):
            assert not answer.finite
            assert answer.answers == answer.token_ids == ()
            assert answer.distribution is None


def test_a_broken_item_disturbs_no_other(vlm, items, monkeypatch):
    whole = sample_answers(vlm, items, floor=0.1, **SETTINGS)
    broken = []
    prefill = Decoder.prefill

    def with_nan(self):
        logits = prefill(self).clone()
        logits[2, 0] = float("nan")
        broken.append(2)
        return logits

    monkeypatch.setattr(Decoder, "prefill", with_nan)
    found = sample_answers(vlm, items, floor=0.1, **SETTINGS)
    assert broken == [2]
    for place, (one, other) in enumerate(zip(whole, found, strict=True)):
        if place == 2:
            assert (other.finite, other.answers) == (False, ())
        else:
            assert one.token_ids == other.token_ids
            assert one.distribution.answers == other.distribution.answers


def test_long_answers_need_no_deeper_stack_and_keep_no_logits(vlm, items, monkeypatch):
    step, depths, logits = Decoder.step, [], []

    def watched(decoder, tokens):
        depths.append(len(inspect.stack(0)))
        found = step(decoder, tokens)
        logits.append(weakref.ref(found))
        alive.append(sum(kept() is not None for kept in logits))
        return found

    alive: list[int] = []
    monkeypatch.setattr(Decoder, "step", watched)
    limits = {"k": 3, "floor": 0.2, "temperature": 0.7, "top_p": 0.5, "max_new_tokens": 12}
    found = sample_answers(vlm, items[:2], **limits)
    assert max(len(tokens) for item in found for tokens in item.token_ids) == 12
    assert len(depths) >= 11
    assert len(set(depths)) == 1
    assert max(alive) == 1

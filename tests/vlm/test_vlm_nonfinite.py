"""Values that are not finite are flagged with what they spoil, and become no answer."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vrp.vlm.decode import CaptureSpec, run_batch

FULL = CaptureSpec.full(("prompt_end", "answer_end"))
# Without the lens, which uses the unembedding that the tests break, too.
NO_LENS = CaptureSpec(attention=True, hidden=("prompt_end", "answer_end"))


@contextmanager
def hooked(module, hook):
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def broken_step(row):
    """NaN logits of one row in the first decode step, none in the prefill."""
    forwards = []

    def hook(module, args, output):
        forwards.append(output.shape)
        if len(forwards) != 2:
            return None
        output = output.clone()
        output[row] = float("nan")
        return output

    return hook


def test_logits_that_break_after_the_first_token_leave_no_half_answer(vlm, items):
    whole = run_batch(vlm, items, NO_LENS, max_new_tokens=4)
    with hooked(vlm.lm_head, broken_step(0)):
        found = run_batch(vlm, items, NO_LENS, max_new_tokens=4)
    pairs = list(zip(whole, found, strict=True))
    ((before, broken),) = [pair for pair in pairs if "non_finite" in pair[1].flags]
    assert len(before.token_ids) > 0
    assert set(broken.flags) == {"no_answer_tokens", "non_finite"}
    assert (broken.answer, broken.token_ids, len(broken.token_logprobs)) == ("", (), 0)
    assert np.isnan(broken.hidden["answer_end"]).all()
    assert np.isfinite(broken.hidden["prompt_end"]).all()
    for one, other in pairs:
        if other is not broken:
            assert (one.token_ids, one.flags) == (other.token_ids, other.flags)


def test_one_broken_item_changes_no_other(vlm, items):
    """Alone in its batch, each other item gives what it gives beside the broken one."""
    plain = run_batch(vlm, items, NO_LENS, max_new_tokens=1)

    def hook(module, args, output):
        output = output.clone()
        output[0] = float("inf")
        return output

    with hooked(vlm.lm_head, hook):
        found = run_batch(vlm, items, NO_LENS, max_new_tokens=1)
    assert set(found[0].flags) == {"no_answer_tokens", "non_finite"}
    for one, other in zip(plain[1:], found[1:], strict=True):
        assert (one.token_ids, one.flags) == (other.token_ids, other.flags)
        np.testing.assert_array_equal(one.attention, other.attention)


@pytest.mark.parametrize("wanted", ["residual_update", "hidden"])
def test_finite_logits_with_a_broken_inside_are_flagged(vlm, items, wanted):
    """The stream of the image tokens turns infinite after the last attention has read it."""
    spec = CaptureSpec(residual_update=True) if wanted == "residual_update" else CaptureSpec(
        hidden=("prompt_end",)
    )  # fmt: skip

    def overflow(module, args, output):
        if output.shape[1] == 1:
            return None
        output = output.clone()
        output[:, :-1] = float("inf")
        return output

    with hooked(vlm.layers[-1], overflow):
        found = run_batch(vlm, items, spec, max_new_tokens=2)
    plain = run_batch(vlm, items, spec, max_new_tokens=1)
    for capture, same in zip(found, plain, strict=True):
        assert capture.token_ids[:1] == same.token_ids
        # `prompt_end` is as finite as ever; what was not read cannot be flagged.
        assert ("non_finite_inside" in capture.flags) == (wanted == "residual_update")
        assert "non_finite" not in capture.flags
        if wanted == "residual_update":
            assert not np.isfinite(capture.residual_update[-1])
            assert np.isfinite(capture.residual_update[:-1]).all()


def test_nothing_is_flagged_in_an_ordinary_batch(vlm, items):
    for capture in run_batch(vlm, items, FULL, max_new_tokens=4):
        assert set(capture.flags) <= {"truncated", "no_answer_tokens"}
        assert torch.tensor(capture.decision_margin).isfinite()


def test_a_cut_answer_whose_last_state_is_not_finite_says_so(vlm, items):
    """What the last token's own step gives is read, but predicts no token that would show it."""
    spec = CaptureSpec(hidden=("prompt_end", "answer_end"))
    whole = run_batch(vlm, items, spec, max_new_tokens=2)
    steps = []

    def break_last(module, args, output):
        if output.shape[1] == 1:
            steps.append(output.shape)
        return output.fill_(float("nan")) if len(steps) == 2 else None

    with hooked(vlm.layers[1], break_last):
        found = run_batch(vlm, items, spec, max_new_tokens=2)
    cut = ["truncated" in capture.flags for capture in whole]
    assert any(cut)
    for one, other, was_cut in zip(whole, found, cut, strict=True):
        assert other.token_ids == one.token_ids
        assert other.flags == ((*one.flags, "non_finite_inside") if was_cut else one.flags)
        assert np.isnan(other.hidden["answer_end"]).any() == was_cut


def test_an_answer_without_tokens_misses_no_state(vlm, items):
    """`answer_end` is NaN there by nature, and nothing inside is broken."""
    [first] = run_batch(vlm, items[:1], max_new_tokens=1)
    ending = dataclasses.replace(vlm, eos_token_ids=first.token_ids)
    [capture] = run_batch(ending, items[:1], FULL, max_new_tokens=2)
    assert capture.flags == ("no_answer_tokens",)

"""The lens against plain numpy over the eager model's states; contributions against sums."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from vrp.vlm import lens
from vrp.vlm.decode import CaptureSpec, run_batch
from vrp.vlm.lens import layer_margins, top_two

FULL = CaptureSpec.full()


@pytest.fixture
def captures(vlm, items):
    items[3] = items[3]._replace(truth_token_ids=())
    return run_batch(vlm, items, FULL, max_new_tokens=2)


def _logits(vlm, residual):
    """Final norm and unembedding by hand: gain · h / rms(h), Gemma's gain being 1 + weight."""
    weight = vlm.final_norm.weight.numpy().astype(np.float64)
    gain = 1 + weight if vlm.family.name == "paligemma" else weight
    rms = np.sqrt((residual.astype(np.float64) ** 2).mean() + 1e-6)
    return vlm.lm_head.weight.numpy().astype(np.float64) @ (gain * residual / rms)


def test_layer_margins_by_hand(vlm, items, captures):
    for item, capture in zip(items, captures, strict=True):
        for layer in range(vlm.n_layers):
            logits = _logits(vlm, capture.hidden["prompt_end"][layer + 1])
            top = np.sort(logits)[::-1]
            decision = capture.lens_decision_margin[layer]
            assert decision == pytest.approx(top[0] - top[1], abs=1e-4)
            truth = list(item.truth_token_ids)
            if not truth:
                assert np.isnan(capture.lens_truth_margin[layer])
                continue
            expected = logits[truth].max() - np.delete(logits, truth).max()
            assert capture.lens_truth_margin[layer] == pytest.approx(expected, abs=1e-4)


def test_last_layer_margin_is_the_decision_margin(captures):
    for capture in captures:
        assert capture.lens_decision_margin[-1] == pytest.approx(capture.decision_margin, abs=1e-4)


def test_margins_do_not_depend_on_the_chunk(vlm, monkeypatch):
    residuals = torch.randn(3, 5, vlm.d_model, generator=torch.Generator().manual_seed(0))
    truth = [(4,), (5, 6), ()]
    whole = layer_margins(vlm, residuals, truth)
    monkeypatch.setattr(lens, "MAX_LENS_LOGITS", 1)
    parts = layer_margins(vlm, residuals, truth)
    torch.testing.assert_close(whole, parts, equal_nan=True)


def test_contributions_sum_to_the_logit_difference(vlm, captures):
    for capture in captures:
        logits = _logits(vlm, capture.hidden["prompt_end"][-1])
        top, second = np.argsort(-logits)[:2]
        assert capture.pair == (top, second)
        parts = capture.attention_contribution.sum() + capture.mlp_contribution.sum()
        total = capture.contribution_embed + parts
        assert total == pytest.approx(logits[top] - logits[second], abs=1e-4)


def test_heads_sum_to_their_layers_attention(captures):
    for capture in captures:
        np.testing.assert_allclose(
            capture.head_contribution.sum(1), capture.attention_contribution, atol=1e-4
        )


def test_head_contribution_is_what_is_lost_without_the_head(vlm, items, captures, overwritten):
    """Without its slice of the last projection, the last head's share is gone from the stream."""
    capture = captures[0]
    weight = vlm.layers[-1].self_attn.o_proj.weight
    without = weight.detach().clone()
    without[:, -vlm.d_model // vlm.n_heads :] = 0
    intact = _last_mid_residual(vlm, items[0])
    with overwritten(weight, without):
        lost = intact - _last_mid_residual(vlm, items[0])
    gain = vlm.family.norm_gain(vlm.final_norm).numpy()
    last = capture.hidden["prompt_end"][-1]
    top, second = capture.pair
    unembed = vlm.lm_head.weight.detach().numpy()
    direction = (unembed[top] - unembed[second]) * gain / np.sqrt((last**2).mean() + 1e-6)
    assert lost @ direction == pytest.approx(capture.head_contribution[-1, -1], abs=1e-4)
    assert abs(capture.head_contribution[-1, -1]) > 1e-3


def _last_mid_residual(vlm, item):
    """The stream at prompt_end between the last attention and the last MLP."""
    seen = []
    norm = vlm.layers[-1].post_attention_layernorm
    handle = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0][0, -1]))
    try:
        run_batch(vlm, [item], max_new_tokens=1)
    finally:
        handle.remove()
    return seen[0].numpy()


def test_norm_gain_is_what_the_norm_does_to_ones(vlm):
    ones = torch.ones(vlm.d_model)
    expected = vlm.final_norm(ones) * np.sqrt(1 + vlm.family.norm_epsilon(vlm.final_norm))
    torch.testing.assert_close(vlm.family.norm_gain(vlm.final_norm), expected)


def test_unembed_gives_the_models_own_logits(vlm, reference, items, captures):
    forward = reference.forward(items[0], ())
    residual = torch.tensor(captures[0].hidden["prompt_end"][-1])
    found = vlm.unembed(residual).numpy()
    np.testing.assert_allclose(found, forward.logits[-1], atol=1e-4)
    assert softmax(found).sum() == pytest.approx(1)


@pytest.mark.slow
def test_top_two_of_tied_half_precision_logits():
    logits = 3 * torch.randn(200, 32064, generator=torch.Generator().manual_seed(0))
    logits = logits.bfloat16().float()
    values = logits.topk(2).values
    assert (values[:, 0] == values[:, 1]).sum() >= 5
    expected = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(top_two(logits), expected)


def test_an_item_without_tokens_of_its_reference_is_flagged(captures):
    flagged = ["no_truth_tokens" in capture.flags for capture in captures]
    assert flagged == [row == 3 for row in range(len(captures))]

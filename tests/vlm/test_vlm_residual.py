"""What is kept of a forward is the last position alone, and no more memory than that."""

import numpy as np
import pytest
import torch

from vrp.vlm.decode import CaptureSpec, run_batch
from vrp.vlm.prefill import Decoder, prepare
from vrp.vlm.residual import ImageTokens, ResidualTap, attached, mean_update


def test_reads_keep_no_other_positions_in_memory(vlm, items):
    prepared = prepare(vlm, items)
    tap = ResidualTap(n_layers=vlm.n_layers, hidden=True, components=True)
    with attached(vlm, tap):
        decoder = Decoder(vlm, prepared)
        if decoder.shared is not None:
            decoder.prefill_prefixes()
            tap.clear()
        decoder.prefill()
    kept = {
        "residuals": vlm.n_layers + 1,
        "attention_outputs": vlm.n_layers,
        "mlp_outputs": vlm.n_layers,
        "joined_heads": vlm.n_layers,
        "projected_heads": vlm.n_layers,
    }
    for name, n_kept in kept.items():
        tensors = getattr(tap, name)
        assert len(tensors) == n_kept
        for tensor in tensors:
            assert len(tensor) == len(items)
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 4, name


def test_mean_update_by_hand():
    """Steps of length 5 and 13 on two image tokens, 2 on the other item's only one."""
    before = torch.ones(2, 4, 2)
    after = before.clone()
    after[0, 1] += torch.tensor([3.0, 4.0])
    after[0, 2] += torch.tensor([5.0, 12.0])
    after[1, 3] += torch.tensor([0.0, -2.0])
    image = ImageTokens(torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]))
    assert mean_update(before, after, image).tolist() == [9.0, 2.0]
    # Neither padding nor text, whose steps have no end, is anything to the image's.
    after[0, 0], after[1, :3] = float("nan"), float("inf")
    assert mean_update(before, after, image).tolist() == [9.0, 2.0]
    after[0, 2, 0] = float("inf")
    assert mean_update(before, after, image).tolist() == [float("inf"), 2.0]


def test_mean_update_of_half_precision_is_summed_in_float32():
    before = torch.zeros(1, 2, 4096, dtype=torch.bfloat16)
    after = torch.full_like(before, 1 + 2**-7)
    found = mean_update(before, after, ImageTokens(torch.tensor([[0, 1]]), torch.tensor([2])))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(64 * (1 + 2**-7), rel=1e-6)


def test_what_padding_holds_does_not_reach_the_update(vlm, items):
    spec = CaptureSpec(residual_update=True)
    whole = run_batch(vlm, items, spec, max_new_tokens=1)
    prepared = prepare(vlm, items)
    padding = prepared.attention_mask == 0
    assert padding.any()
    spoilt = {len(items): padding}
    if (shared := prepared.shared) is not None:
        spoilt[len(shared.items)] = padding[shared.items, : shared.n_columns]
        spoilt[len(items)] = padding[:, shared.n_columns :]

    def spoil(module, args, output):
        output = output.clone()
        output[spoilt[len(output)]] = float("nan")
        return output

    handle = vlm.layers[-1].register_forward_hook(spoil)  # no later layer attends to it
    try:
        found = run_batch(vlm, items, spec, max_new_tokens=1)
    finally:
        handle.remove()
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one.residual_update, other.residual_update)
        assert one.flags == other.flags == ("truncated",)

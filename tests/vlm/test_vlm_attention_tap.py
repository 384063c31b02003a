"""Attention rows by hand, and when the tap must stay silent."""

import numpy as np
import pytest
import torch

from vrp.vlm.attention_tap import AttentionTap, active, last_query_rows, tapped_attention_forward


class _Module:
    """As much of an attention module as the interface reads."""

    def __init__(self, n_groups: int = 2) -> None:
        self.num_key_value_groups = n_groups
        self.layer_idx = 0
        self.is_causal = True
        self.training = False


def _tensors(n_queries: int = 5, n_keys: int = 5):
    made = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, n_queries, 3, generator=made)
    key, value = torch.randn(2, 2, 2, n_keys, 3, generator=made)
    return query, key, value


def _expected_rows(query, key, visible):
    """Softmax written out; query head h reads key group h // 2."""
    rows = np.zeros((2, 4, key.shape[2]))
    for item in range(2):
        for head in range(4):
            scores = key[item, head // 2].numpy() @ query[item, head, -1].numpy() * 0.5
            weights = np.exp(scores) * visible[item]
            rows[item, head] = weights / weights.sum()
    return rows


@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_last_query_rows_by_hand(kind):
    query, key, _ = _tensors()
    visible = np.ones((2, 5))
    mask = None
    if kind != "none":
        visible[1, :2] = 0
        mask = torch.tensor(visible, dtype=torch.bool)[:, None, None, :].expand(2, 1, 5, 5)
    if kind == "additive":
        mask = torch.zeros(2, 1, 5, 5).masked_fill(~mask, torch.finfo(torch.float32).min)
    rows = last_query_rows(query, key, mask, 0.5)
    np.testing.assert_allclose(rows, _expected_rows(query, key, visible), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n_at_once", [1, 3, 100])
def test_scores_of_half_precision_are_not_rounded(monkeypatch, dtype, n_at_once):
    """bfloat16 keeps 8 bits: scores of about 20, rounded, would move rows by several percent."""
    made = torch.Generator().manual_seed(1)
    query = (4 * torch.randn(3, 4, 2, 64, generator=made)).to(dtype)
    key = (4 * torch.randn(3, 2, 50, 64, generator=made)).to(dtype)
    monkeypatch.setattr("vrp.vlm.attention_tap._MAX_COPIED", n_at_once * 50 * 64)
    rows = last_query_rows(query, key, None, 0.05)
    assert rows.dtype == torch.float32
    repeated = key.double().repeat_interleave(2, dim=1)
    scores = torch.einsum("bhd,bhkd->bhk", query[:, :, -1].double(), repeated) * 0.05
    np.testing.assert_allclose(rows, scores.softmax(-1), rtol=1e-5, atol=1e-9)


def test_a_gpu_multiplies_half_precision_without_a_copy():
    """The shapes alone: on a GPU the keys go into the product as they are."""
    query = torch.empty(2, 8, 3, 16, dtype=torch.bfloat16, device="meta")
    key = torch.empty(2, 2, 7, 16, dtype=torch.bfloat16, device="meta")
    rows = last_query_rows(query, key, None, 0.25)
    assert rows.shape == (2, 8, 7)
    assert rows.dtype == torch.float32


def test_rows_are_gathered_at_the_image_tokens():
    query, key, value = _tensors()
    tap = AttentionTap(torch.tensor([[1, 2], [3, 0]]), n_layers=1, collect=True)
    with active(tap):
        tapped_attention_forward(_Module(), query, key, value, None, scaling=0.5)
    expected = _expected_rows(query, key, np.ones((2, 5)))
    np.testing.assert_allclose(tap.stacked_rows()[0, 0], expected[0][:, [1, 2]], atol=1e-6)
    np.testing.assert_allclose(tap.stacked_rows()[0, 1], expected[1][:, [3, 0]], atol=1e-6)


@pytest.mark.parametrize(("n_queries", "causal"), [(5, True), (5, False), (1, True)])
def test_hidden_columns_without_a_mask_of_the_model(n_queries, causal):
    """Prefill and decode step, where transformers hands over no mask at all."""
    query, key, value = _tensors(n_queries)
    module = _Module()
    module.is_causal = causal
    keep = torch.tensor([[True, False, True], [True, True, True]])  # a prompt of three
    tap = AttentionTap(torch.tensor([[0], [0]]), n_layers=1, collect=False, keep=keep)
    with active(tap):
        found, _ = tapped_attention_forward(module, query, key, value, None, scaling=0.5)
    for item in range(2):
        for head in range(4):
            for q in range(n_queries):
                own = 5 - n_queries + q
                seen = np.arange(5) <= own if causal else np.ones(5, dtype=bool)
                if item == 0 and own != 1:
                    seen = seen & (np.arange(5) != 1)
                scores = key[item, head // 2].numpy() @ query[item, head, q].numpy() * 0.5
                weights = np.exp(scores) * seen
                expected = weights / weights.sum() @ value[item, head // 2].numpy()
                np.testing.assert_allclose(found[item, q, head], expected, atol=1e-6)


def test_a_layer_that_does_not_report_is_an_error_not_a_zero():
    tap = AttentionTap(torch.tensor([[0]]), n_layers=2, collect=True)
    with pytest.raises(RuntimeError, match="missing"):
        tap.stacked_rows()


def test_outside_the_block_nothing_is_collected():
    query, key, value = _tensors()
    tap = AttentionTap(torch.tensor([[1], [1]]), n_layers=1, collect=True)
    with active(tap):
        pass
    tapped_attention_forward(_Module(), query, key, value, None, scaling=0.5)
    assert tap.rows == [None]

"""Gumbel-max draws: known noise, the exact law, and what rounding can and cannot change."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, gumbel_r, kstest
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from vrp.vlm.nucleus_sampling import draw_tokens, find_nucleus, gumbel_noise, noise_key, random_bits

RULE = {"temperature": 0.7, "top_p": 0.9}


def _keys(n_keys: int, item: str = "item") -> list[int]:
    return [noise_key(11, item, sample, 0) for sample in range(n_keys)]


def _logits(probabilities: list[float]) -> torch.Tensor:
    """Logits (1, V) in float32 with these probabilities at temperature 1."""
    return torch.tensor([probabilities], dtype=torch.float64).log().float()


# Noise


def test_a_key_is_sha256_of_what_it_depends_on() -> None:
    digest = hashlib.sha256(b"11\x1fitem\x1f2\x1f3").digest()
    assert noise_key(11, "item", 2, 3) == int.from_bytes(digest[:8], "big")


def test_bits_are_those_of_splitmix64() -> None:
    """Reference output of splitmix64.c (S. Vigna) for the seed 1234567."""
    expected = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    key = np.array([1234567], dtype=np.uint64)
    assert random_bits(key, np.arange(5)).tolist() == expected


def test_noise_is_standard_gumbel_over_tokens_and_over_keys() -> None:
    over_tokens = gumbel_noise(_keys(4), np.arange(5_000))
    over_keys = gumbel_noise(_keys(5_000), np.array([0, 1, 31_999, 256_000])).T
    for row in (*over_tokens, *over_keys):
        assert kstest(row, gumbel_r.cdf).pvalue > 1e-3
    for rows in (over_tokens, over_keys):
        off_diagonal = np.corrcoef(rows)[np.triu_indices(4, 1)]
        assert np.abs(off_diagonal).max() < 4 / 5_000**0.5


def test_a_tokens_noise_does_not_depend_on_the_others() -> None:
    whole = gumbel_noise(_keys(3), np.arange(1_000))
    some = np.array([5, 17, 999])
    assert (gumbel_noise(_keys(3)[1:], some) == whole[1:, some]).all()


# The nucleus


def test_nucleus_by_hand() -> None:
    logits = _logits([0.1, 0.5, 0.15, 0.25])
    for temperature, top_p, expected in (
        (1.0, 0.7, [0, 2 / 3, 0, 1 / 3]),
        (1.0, 1.0, [0.1, 0.5, 0.15, 0.25]),
        # Temperature 0.5 squares the odds: .01, .25, .0225, .0625 of .345 in all.
        (0.5, 0.8, [0, 0.8, 0, 0.2]),
        (1.0, 0.01, [0, 1, 0, 0]),
    ):
        found = find_nucleus(logits, temperature=temperature, top_p=top_p).probabilities
        np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_nucleus_equals_transformers_warpers() -> None:
    logits = torch.tensor(np.random.default_rng(1).normal(size=(50, 200)) * 3)
    warped = TopPLogitsWarper(0.9)(None, TemperatureLogitsWarper(0.7)(None, logits)).softmax(-1)
    np.testing.assert_allclose(find_nucleus(logits, **RULE).probabilities, warped, atol=1e-9)


# Draws


def test_draws_follow_the_nucleus_exactly() -> None:
    logits = torch.tensor(np.random.default_rng(2).normal(size=(2, 40)), dtype=torch.float32)
    nucleus = find_nucleus(logits, **RULE)
    n_draws = 20_000
    drawn = draw_tokens(nucleus, [_keys(n_draws, "a"), _keys(n_draws, "b")])
    for draws, probabilities in zip(drawn, nucleus.probabilities.numpy(), strict=True):
        observed = np.bincount(draws.tokens, minlength=40)
        kept = probabilities > 0
        assert observed[~kept].sum() == 0
        assert kept.sum() > 10
        assert chisquare(observed[kept], n_draws * probabilities[kept]).pvalue > 1e-3


def test_rows_may_ask_for_any_number_of_draws() -> None:
    logits = torch.tensor(np.random.default_rng(3).normal(size=(3, 40)), dtype=torch.float32)
    nucleus = find_nucleus(logits, **RULE)
    several = draw_tokens(nucleus, [_keys(5), [], _keys(2)])
    assert [len(draws.tokens) for draws in several] == [5, 0, 2]
    for row in (0, 2):
        [alone] = draw_tokens(find_nucleus(logits[row : row + 1], **RULE), [_keys(5)])
        assert several[row].tokens == alone.tokens[: len(several[row].tokens)]


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_a_token_that_cannot_be_drawn_never_is(top_p: float) -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -2_000.0]])
    [draws] = draw_tokens(find_nucleus(logits, temperature=0.7, top_p=top_p), [_keys(200)])
    assert set(draws.tokens) == {0, 2}


def test_a_swap_at_the_edge_changes_only_samples_that_draw_one_of_the_two() -> None:
    """The mass before the last two tokens is under top-p, that before the second of them is not:
    a difference of 1e-6 says which of the two is in the nucleus."""
    likely = [0.3, 0.002, 0.25, 0.2, 0.002, 0.1]
    logits = _logits([*likely, 1 - sum(likely)])
    one, other = logits.clone(), logits.clone()
    one[0, 1] += 5e-7
    other[0, 4] += 5e-7
    rule = {"temperature": 1.0, "top_p": 0.997}
    first, second = (find_nucleus(which, **rule) for which in (one, other))
    assert (first.probabilities[0, [1, 4]] > 0).tolist() == [True, False]
    assert (second.probabilities[0, [1, 4]] > 0).tolist() == [False, True]
    n_draws = 20_000
    [before], [after] = (draw_tokens(which, [_keys(n_draws)]) for which in (first, second))
    was, became = np.array(before.tokens), np.array(after.tokens)
    changed = was != became
    assert 20 < changed.sum() < 200  # 0.004 of the draws; inversion would have moved half of them
    assert ((was == 1) | (became == 4))[changed].all()
    assert (before.close & after.close)[changed].all()


@pytest.mark.parametrize(
    ("dtype", "width", "most"), [(torch.float32, 1e-5, 5), (torch.bfloat16, 2**-7, 2_400)]
)
def test_draws_that_rounding_turns_are_close(dtype: torch.dtype, width: float, most: int) -> None:
    rng = np.random.default_rng(4)
    exact = torch.tensor(rng.normal(size=(60, 300)) * 2)
    shifted = exact + torch.tensor(rng.uniform(-0.5, 0.5, size=exact.shape) * width)
    keys = [_keys(400, f"item-{row}") for row in range(len(exact))]
    before, after = (
        draw_tokens(find_nucleus(logits.float(), **RULE, dtype=dtype), keys)
        for logits in (exact, shifted)
    )
    n_turned = n_close = 0
    for one, other in zip(before, after, strict=True):
        turned = np.array(one.tokens) != np.array(other.tokens)
        assert (one.close & other.close)[turned].all()
        n_turned += turned.sum()
        n_close += one.close.sum()
    assert n_close <= most  # of 24,000 draws
    assert dtype == torch.float32 or n_turned > 20


def test_a_certain_token_is_not_close() -> None:
    [draws] = draw_tokens(find_nucleus(_logits([0.95, 0.03, 0.02]), **RULE), [_keys(500)])
    assert not draws.close.any()
    # Both are needed to reach 0.9, whatever rounding does.
    [draws] = draw_tokens(
        find_nucleus(_logits([0.6, 0.35, 0.05]), temperature=1.0, top_p=0.9), [_keys(500)]
    )
    assert set(draws.tokens) == {0, 1}
    assert not draws.close.any()


def test_a_tie_is_close_and_goes_to_the_lower_id() -> None:
    logits = torch.tensor([[20.0, 20.0, 1.0]])
    coarse = find_nucleus(logits, temperature=1.0, top_p=1e-6, dtype=torch.bfloat16)
    [draws] = draw_tokens(coarse, [_keys(100)])
    assert draws.tokens == [0] * 100
    # Token 1 may take the only place in the nucleus, and would win or leave token 0 out.
    assert draws.close.all()

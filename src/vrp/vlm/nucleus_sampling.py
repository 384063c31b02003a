"""Draw tokens from a nucleus by Gumbel-max, so that rounding cannot move a sample.

The drawn token has the highest sum of log-probability and Gumbel noise, which follows the
distribution exactly (Gumbel 1954). The noise of a token depends on the study's seed, the item, the
sample, the step and the token's id, and on no other token: a token that rounding moves into the
nucleus or out of it changes a sample only where that token itself wins.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

# Two logits are close where their order is a matter of rounding: kernels for other batch sizes or
# other processors sum in another order.
_CLOSE = 1e-5

# Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64).
_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def noise_key(seed: int | str, item_id: str, sample: int, step: int) -> int:
    """Return the 64-bit key of one draw: the start of a SHA-256 of what it depends on."""
    key = f"{seed}\x1f{item_id}\x1f{sample}\x1f{step}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big")


def random_bits(keys: NDArray[np.uint64], counters: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the output of SplitMix64 at each counter (from 0) of the stream that a key seeds.

    Keys and counters broadcast against each other.
    """
    state = keys + (counters.astype(np.uint64) + np.uint64(1)) * _GOLDEN_GAMMA
    for shift, factor in _MIXERS:
        state = (state ^ (state >> np.uint64(shift))) * factor
    return state ^ (state >> np.uint64(31))


def gumbel_noise(keys: Sequence[int], token_ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return (n_keys, n_tokens) standard Gumbel noise, each value a function of key and token."""
    bits = random_bits(np.array(keys, dtype=np.uint64)[:, None], token_ids)
    # 52 bits and a half: never 0 or 1, where the logarithms below would be infinite.
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return -np.log(-np.log(uniform))


def tie_tolerance(logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return (…, 1) the gap under which two of the highest logits are close.

    It is 1e-5 or the rounding of the model's dtype, relative to the highest logit where that is
    over 1.

    Args:
        logits: (…, V) raw, in float32.
        dtype: what the model computes in.
    """
    scale = logits.amax(-1, keepdim=True).abs().clamp_min(1.0)
    return scale * max(_CLOSE, torch.finfo(dtype).eps)


class Nucleus(NamedTuple):
    """The tokens that rows of logits allow under temperature and top-p."""

    probabilities: torch.Tensor
    """(R, V) float64, renormalised; 0 outside of the nucleus."""
    unrestricted: torch.Tensor
    """(R, V) float64 before top-p."""
    possible: torch.Tensor
    """(R, V) tokens of the nucleus, and those that rounding may bring in."""
    tolerance: torch.Tensor
    """(R, 1) gap of two log-probabilities that rounding may close."""
    least_mass: torch.Tensor
    """(R, 1) mass of other tokens that, ahead of a token, may push it out of the nucleus; infinite
    without top-p."""


def find_nucleus(
    logits: torch.Tensor, *, temperature: float, top_p: float, dtype: torch.dtype = torch.float32
) -> Nucleus:
    """Return the smallest set of likeliest tokens whose mass reaches `top_p`.

    Of equally likely tokens the one with the lower id is kept first.

    Args:
        logits: (R, V) raw, in float32.
        temperature: logits are divided by it.
        top_p: least mass of the nucleus.
        dtype: what the model computes in, which says how far rounding reaches.
    """
    tolerance = tie_tolerance(logits, dtype).double() / temperature
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p >= 1:
        whole = probabilities / probabilities.sum(-1, keepdim=True)
        never = torch.full_like(tolerance, torch.inf)
        return Nucleus(whole, probabilities, probabilities > 0, tolerance, never)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(mass_before >= top_p, 0.0)
    kept = torch.zeros_like(probabilities).scatter(-1, order, kept)
    # Logits that move by half the tolerance move the log-odds of a mass by at most the tolerance,
    # and exchange tokens whose log-probabilities differ by less than it.
    log_odds = torch.logit(torch.tensor(top_p, dtype=torch.float64, device=logits.device))
    most_mass = torch.sigmoid(log_odds + tolerance)
    last = (mass_before < most_mass).sum(-1, keepdim=True) - 1
    enough = ordered.gather(-1, last) * torch.exp(-tolerance)
    return Nucleus(
        kept / kept.sum(-1, keepdim=True),
        probabilities,
        possible=(probabilities >= enough) & (probabilities > 0),
        tolerance=tolerance,
        least_mass=torch.sigmoid(log_odds - tolerance),
    )


class Draws(NamedTuple):
    """The tokens drawn from one row."""

    tokens: list[int]
    """One for each key."""
    close: NDArray[np.bool_]
    """Of each, whether rounding may turn it: the runner-up is within the tolerance, or the winner
    may leave the nucleus, or a token outside that may enter it would win."""


def draw_tokens(nucleus: Nucleus, keys: Sequence[Sequence[int]]) -> list[Draws]:
    """Draw one token for each key of each row.

    Args:
        nucleus: R rows.
        keys: of each row, any number of draws.
    """
    at, token_ids = nucleus.possible.nonzero(as_tuple=True)
    weights, inside, tokens = (
        values.cpu().numpy()
        for values in (
            nucleus.unrestricted[at, token_ids],
            nucleus.probabilities[at, token_ids] > 0,
            token_ids,
        )
    )
    ends = np.bincount(at.cpu().numpy(), minlength=len(keys)).cumsum()[:-1]
    rows = zip(
        np.split(weights, ends),
        np.split(inside, ends),
        np.split(tokens, ends),
        nucleus.tolerance[:, 0].tolist(),
        nucleus.least_mass[:, 0].tolist(),
        keys,
        strict=True,
    )
    return [_draw_row(*row) if row[-1] else Draws([], np.zeros(0, dtype=bool)) for row in rows]


def _draw_row(
    weights: NDArray[np.float64],
    inside: NDArray[np.bool_],
    tokens: NDArray[np.integer],
    tolerance: float,
    least_mass: float,
    keys: Sequence[int],
) -> Draws:
    """Draw from one row, given its n possible tokens in the order of their ids."""
    log_weights = np.log(weights)
    scores = log_weights + gumbel_noise(keys, tokens)  # (n_keys, n)
    # The first of equal scores wins: that of the lower id.
    winners = np.where(inside, scores, -np.inf).argmax(axis=1)
    best = scores[np.arange(len(keys)), winners]
    contested = (scores >= best[:, None] - tolerance).sum(axis=1) > 1
    doubtful = _mass_ahead(weights, tolerance) >= least_mass
    return Draws(tokens[winners].tolist(), contested | doubtful[winners])


def _mass_ahead(weights: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return, for each token, the mass of the others that may be likelier but for rounding."""
    descending = np.sort(weights)[::-1]
    n_ahead = np.searchsorted(-descending, -weights * np.exp(-tolerance), side="right")
    return descending.cumsum()[n_ahead - 1] - weights

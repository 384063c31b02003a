"""K sampled answers an item from one prefill; samples that share a prefix are decoded once.

Noise is keyed by study seed, item, sample and step, so an answer does not depend on the batch,
the shard or the order. (Self-consistency: arXiv 2606.17389, K=10, T=0.7, top-p 0.9.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from vrp.errors import InputError
from vrp.vlm.batching import VlmInput
from vrp.vlm.loading import VLM
from vrp.vlm.prefill import Decoder, Prepared, prepare


class ItemSamples(NamedTuple):
    """The sampled answers of one item, in the order of the samples."""

    item_id: str
    """Names the item."""
    answers: tuple[str, ...]
    """K answers as text."""
    token_ids: tuple[tuple[int, ...], ...]
    """K answers as tokens, without end-of-sequence."""


def uniform_noise(seed: int | str, item_id: str, sample: int, step: int) -> float:
    """Return the number in [0, 1) that decides one sampled token: 53 bits of a SHA-256."""
    key = f"{seed}\x1f{item_id}\x1f{sample}\x1f{step}".encode()
    return (int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 11) * 2.0**-53


def nucleus_probabilities(
    logits: torch.Tensor, *, temperature: float, top_p: float
) -> torch.Tensor:
    """Return (…, V) probabilities in float64 under temperature, then top-p, renormalised.

    Kept is the smallest set of likeliest tokens whose mass reaches `top_p`; of equally likely
    tokens the one with the lower id is kept first.
    """
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        mass_before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(mass_before >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
    return probabilities / probabilities.sum(-1, keepdim=True)


@dataclass
class _Prefix:
    """A row of the decoder: a prefix, and the samples (item, sample) that share it."""

    tokens: tuple[int, ...] = ()
    samples: list[tuple[int, int]] = field(default_factory=list)


@torch.inference_mode()
def sample_answers(
    vlm: VLM,
    inputs: Sequence[VlmInput] | Prepared,
    *,
    k: int,
    temperature: float,
    top_p: float,
    seed: int | str,
    max_new_tokens: int,
) -> list[ItemSamples]:
    """Draw K answers for each item of a batch.

    Args:
        vlm: the model.
        inputs: the batch.
        k: samples an item.
        temperature: logits are divided by it.
        top_p: mass of the nucleus that is sampled from.
        seed: the study's seed.
        max_new_tokens: longest answer.

    Raises:
        InputError: a parameter out of range, an item that cannot be prepared, or logits that are
            not finite.
    """
    if k < 1 or max_new_tokens < 1 or temperature <= 0 or not 0 < top_p <= 1:
        raise InputError(
            f"k={k}, max_new_tokens={max_new_tokens}, temperature={temperature}, top_p={top_p}: "
            "needed are k and max_new_tokens of at least 1, temperature > 0, 0 < top_p <= 1"
        )
    batch = list(inputs.inputs if isinstance(inputs, Prepared) else inputs)
    arguments = {
        "k": k,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
    }
    try:
        prepared = (
            inputs
            if isinstance(inputs, Prepared)
            else prepare(vlm, batch, max_new_tokens=max_new_tokens)
        )
        finished = _sample_tree(vlm, prepared, **arguments)  # type: ignore[arg-type]
        return _collected(vlm, prepared, finished)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(batch) // 2
    parts = (batch[:half], batch[half:])
    return [
        item
        for part in parts
        for item in sample_answers(vlm, part, **arguments)  # type: ignore[arg-type]
    ]


def _sample_tree(
    vlm: VLM,
    prepared: Prepared,
    *,
    k: int,
    temperature: float,
    top_p: float,
    seed: int | str,
    max_new_tokens: int,
) -> list[list[tuple[int, ...]]]:
    """Return, per item, K token sequences."""
    ids = [item.item_id for item in prepared.inputs]
    answers: list[list[tuple[int, ...]]] = [[()] * k for _ in ids]
    decoder = Decoder(vlm, prepared)
    logits = decoder.prefill()
    rows = [_Prefix(samples=[(i, s) for s in range(k)]) for i in range(len(ids))]
    for step in range(max_new_tokens):
        _check_finite(logits, rows, ids)
        probabilities = nucleus_probabilities(logits, temperature=temperature, top_p=top_p)
        noise = [[uniform_noise(seed, ids[i], s, step) for i, s in row.samples] for row in rows]
        drawn = _draw(probabilities, noise)
        rows, parents = _branch(rows, drawn, vlm.eos_token_ids)
        for row in rows:
            for item, sample in row.samples:
                answers[item][sample] = row.tokens
        if not rows or step + 1 == max_new_tokens:
            break
        if parents != list(range(logits.shape[0])):
            decoder.select(torch.tensor(parents))
        logits = decoder.step(torch.tensor([r.tokens[-1] for r in rows], device=logits.device))
    return answers


def _check_finite(logits: torch.Tensor, rows: list[_Prefix], ids: list[str]) -> None:
    broken = (~logits.isfinite().all(-1)).nonzero()[:, 0].tolist()
    if broken:
        item = ids[rows[broken[0]].samples[0][0]]
        raise InputError(
            f"item {item!r}: the model's logits are not finite, so nothing can be sampled; "
            "set its dtype to float32 or bfloat16"
        )


def _draw(probabilities: torch.Tensor, noise: list[list[float]]) -> list[list[int]]:
    """Return the tokens that each row's noise picks from its distribution, by inversion.

    The distribution is inverted in the order of token ids, not of likelihood: rounding may swap
    near-equal tokens in the latter, and with them whole stretches of the noise.
    """
    width = max(len(row) for row in noise)
    padded = [row + [0.0] * (width - len(row)) for row in noise]
    cumulative = probabilities.cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    levels = torch.tensor(padded, dtype=torch.float64, device=probabilities.device)
    picked = torch.searchsorted(cumulative, levels, right=True).tolist()
    return [tokens[: len(row)] for tokens, row in zip(picked, noise, strict=True)]


def _branch(
    rows: list[_Prefix], drawn: list[list[int]], eos_token_ids: tuple[int, ...]
) -> tuple[list[_Prefix], list[int]]:
    """Return the prefixes that go on, one for each distinct continuation, and their parents."""
    branches: list[_Prefix] = []
    parents: list[int] = []
    for parent, (row, tokens) in enumerate(zip(rows, drawn, strict=True)):
        children: dict[int, _Prefix] = {}
        for sample, token in zip(row.samples, tokens, strict=True):
            if token in eos_token_ids:
                continue
            if token not in children:
                children[token] = _Prefix(tokens=(*row.tokens, token))
            children[token].samples.append(sample)
        branches.extend(children.values())
        parents.extend([parent] * len(children))
    return branches, parents


def _collected(
    vlm: VLM, prepared: Prepared, answers: list[list[tuple[int, ...]]]
) -> list[ItemSamples]:
    distinct = sorted({tokens for item in answers for tokens in item})
    text_of = dict(zip(distinct, vlm.decode(distinct), strict=True))
    return [
        ItemSamples(
            item_id=item.item_id,
            answers=tuple(text_of[tokens] for tokens in sequences),
            token_ids=tuple(sequences),
        )
        for item, sequences in zip(prepared.inputs, answers, strict=True)
    ]

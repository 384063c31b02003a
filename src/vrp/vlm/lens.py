"""The logit lens and component contributions at `prompt_end` (arXiv 2605.08200).

Contributions are to the logit difference of one fixed token pair: the top answer and its
runner-up at the last layer. The final norm is frozen: its scale is that of the last residual and
its gain is folded into the unembedding difference, so contributions add up exactly.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from vrp.vlm.memory_limits import MAX_LENS_LOGITS
from vrp.vlm.model import VLM
from vrp.vlm.residual import ResidualTap


class LensMargins(NamedTuple):
    """Per item and layer, from the logits of each layer's residual."""

    decision: torch.Tensor
    """(B, L) top logit minus runner-up."""
    truth: torch.Tensor
    """(B, L) best logit of the reference's tokens minus best of all others; NaN without them."""


class Contributions(NamedTuple):
    """Shares of the last layer's logit difference of `pair`."""

    pair: torch.Tensor
    """(B, 2) top token and runner-up at the last layer."""
    embed: torch.Tensor
    """(B,) of the input to layer 0."""
    attention: torch.Tensor
    """(B, L) of what each layer's attention adds."""
    mlp: torch.Tensor
    """(B, L) of what each layer's MLP adds."""
    heads: torch.Tensor
    """(B, L, H) of each head; they sum to `attention` where the projection has no bias."""


def top_two(logits: torch.Tensor) -> torch.Tensor:
    """Return (…, 2) ids of the highest logit and of its runner-up; ties go to the lower id.

    The first is then the token that greedy decoding emits, whichever order half precision has
    left to chance.
    """
    top = logits.argmax(-1, keepdim=True)
    runner_up = logits.scatter(-1, top, -torch.inf).argmax(-1, keepdim=True)
    return torch.cat([top, runner_up], dim=-1)


def layer_margins(
    vlm: VLM, residuals: torch.Tensor, truth_token_ids: Sequence[Sequence[int]]
) -> LensMargins:
    """Return both margins of every layer.

    Args:
        vlm: the model whose final norm and unembedding are used.
        residuals: (B, L, d_model) residual after each decoder layer.
        truth_token_ids: per item, first tokens of every surface form of the reference.
    """
    batch, n_layers, _ = residuals.shape
    index, known = _padded_ids(truth_token_ids, residuals.device)
    vocabulary = int(vlm.lm_head.weight.shape[0])
    # Logits of all layers at once would be (B·L, V).
    chunk = max(1, MAX_LENS_LOGITS // (batch * vocabulary))
    decision, truth = [], []
    for start in range(0, n_layers, chunk):
        logits = vlm.unembed(residuals[:, start : start + chunk]).to(residuals.device)
        top = logits.topk(2, dim=-1).values
        decision.append(top[..., 0] - top[..., 1])
        truth.append(_truth_margin(logits, index, known))
    return LensMargins(torch.cat(decision, dim=1), torch.cat(truth, dim=1))


def _truth_margin(logits: torch.Tensor, index: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    if index.shape[1] == 0:
        return torch.full(logits.shape[:-1], float("nan"), device=logits.device)
    at = index[:, None, :].expand(-1, logits.shape[1], -1)
    best_truth = logits.gather(2, at).masked_fill(~known[:, None, :], -torch.inf).amax(-1)
    # Padding repeats an item's own first id, so nothing but its reference is taken out.
    best_other = logits.scatter(2, at, -torch.inf).amax(-1)
    margin = best_truth - best_other
    return margin.masked_fill(~known.any(-1)[:, None], float("nan"))


def _padded_ids(
    truth_token_ids: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max((len(ids) for ids in truth_token_ids), default=0)
    rows = [list(ids) + [ids[0] if ids else 0] * (width - len(ids)) for ids in truth_token_ids]
    known = [[True] * len(ids) + [False] * (width - len(ids)) for ids in truth_token_ids]
    shape = (len(truth_token_ids), width)
    return (
        torch.tensor(rows, dtype=torch.long, device=device).reshape(shape),
        torch.tensor(known, dtype=torch.bool, device=device).reshape(shape),
    )


def contributions(vlm: VLM, tap: ResidualTap, pair: torch.Tensor) -> Contributions:
    """Project what the tap kept of the latest forward on the pair's frozen direction.

    Args:
        vlm: the model whose final norm and unembedding are used.
        tap: holds residuals and components of the prefill.
        pair: (B, 2) token ids, top answer and runner-up at the last layer.
    """
    direction = frozen_direction(vlm, tap.residuals[-1], pair)
    device = direction.device
    attention = torch.stack([kept.to(device) for kept in tap.attention_outputs], dim=1)
    mlp = torch.stack([kept.to(device) for kept in tap.mlp_outputs], dim=1)
    embed = tap.residuals[0].to(device)
    return Contributions(
        pair=pair,
        embed=(embed * direction).sum(-1),
        attention=torch.einsum("bld,bd->bl", attention, direction),
        mlp=torch.einsum("bld,bd->bl", mlp, direction),
        heads=_head_contributions(vlm, tap, direction),
    )


def frozen_direction(vlm: VLM, last_residual: torch.Tensor, pair: torch.Tensor) -> torch.Tensor:
    """Return (B, d_model): its product with the last residual is the pair's logit difference."""
    weight = vlm.lm_head.weight
    token_pair = pair.to(weight.device)
    difference = (weight[token_pair[:, 0]].float() - weight[token_pair[:, 1]].float()).to(
        last_residual.device
    )
    return difference * _frozen_norm(vlm, vlm.final_norm, last_residual)


def _frozen_norm(vlm: VLM, norm: Any, entering: torch.Tensor) -> torch.Tensor:
    """Return (B, d_model) what the norm multiplies `entering` with, its scale held."""
    scale = torch.rsqrt(entering.pow(2).mean(-1, keepdim=True) + vlm.family.norm_epsilon(norm))
    return scale * vlm.family.norm_gain(norm).to(entering.device)


def _head_contributions(vlm: VLM, tap: ResidualTap, direction: torch.Tensor) -> torch.Tensor:
    per_layer = []
    for index, layer in enumerate(vlm.layers):
        projection = vlm.family.attention_output(layer)
        towards = direction
        writer = vlm.family.attention_writer(layer)
        if writer is not layer.self_attn:  # a norm stands between the projection and the stream
            frozen = _frozen_norm(vlm, writer, tap.projected_heads[index])
            towards = direction * frozen.to(direction.device)
        joined = tap.joined_heads[index].to(direction.device)
        pulled_back = towards @ projection.weight.float().to(direction.device)
        per_layer.append((joined * pulled_back).unflatten(-1, (vlm.n_heads, -1)).sum(-1))
    return torch.stack(per_layer, dim=1)

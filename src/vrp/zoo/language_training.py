"""Teaching a decoder to answer: the packed forward pass and its losses."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from vrp.data.scenes.icons import COLORS
from vrp.zoo.architectures import D_MODEL
from vrp.zoo.curriculum import MAX_COUNT, TASKS, Grounding, PackedBatch, attention_mask
from vrp.zoo.training_phase import StepOutcome

_EOS_WEIGHT: Final = 0.1


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    n_context: int,
    n_blocks: int,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention over a packed batch that never forms the scores that the block mask forbids.

    Contexts attend to themselves, blocks to their context and to themselves (with `n_blocks` 0,
    everything to everything that the mask allows). Equal to dense attention under
    `attention_mask` (B, 1, L, L); `query` is (B, heads, L, d), `key` and `value` (B, key-value
    heads, L, d). Computed in bfloat16 under autocast.
    """
    batch, n_heads, length, d_head = query.shape
    groups = n_heads // key.shape[1]
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else query.dtype
    with torch.autocast("cpu", enabled=False):
        query = (query * scaling).to(dtype)
        key = key.to(dtype).repeat_interleave(groups, dim=1)
        value = value.to(dtype).repeat_interleave(groups, dim=1)
        mask = attention_mask.to(dtype)
        if n_blocks == 0:
            scores = (query @ key.transpose(2, 3)).add_(mask)
            return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None

        n_own = (length - n_context) // n_blocks
        key_0, value_0 = key[:, :, :n_context], value[:, :, :n_context]
        scores = query[:, :, :n_context] @ key_0.transpose(2, 3)
        scores = scores.add_(mask[:, :, :n_context, :n_context])
        context = scores.softmax(-1) @ value_0

        blocks = (batch, n_heads, n_blocks, n_own, d_head)
        query_k, key_k, value_k = (x[:, :, n_context:] for x in (query, key, value))
        own = query_k.reshape(blocks) @ key_k.reshape(blocks).transpose(3, 4)
        own_mask = torch.stack(
            [
                mask[:, :, start : start + n_own, start : start + n_own]
                for start in range(n_context, length, n_own)
            ],
            dim=2,
        )
        own = own.add_(own_mask).flatten(2, 3)
        far = query_k @ key_0.transpose(2, 3)
        far = far.add_(mask[:, :, n_context:, :n_context])
        weights = torch.cat([far, own], dim=-1).softmax(-1)
        answers = weights[..., :n_context] @ value_0
        near = weights[..., n_context:].reshape(batch, n_heads, n_blocks, n_own, n_own)
        answers = answers + (near @ value_k.reshape(blocks)).flatten(2, 3)
        out = torch.cat([context, answers], dim=2)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("vrp_packed", packed_attention)
AttentionMaskInterface.register("vrp_packed", eager_mask)


class GroundingHeads(nn.Module):
    """Linear read-outs of a noun's state at three depths; thrown away after training.

    They ask of every noun in a question what a right answer needs (is it there, how often,
    where, in which colour, how far from the noun before it, which relation is meant), a layer
    later how far the relation holds, and so give attention a gradient long before answers do.
    They end half-way down the decoder, so that layers are left that can carry what is known to
    the answer.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.layers = (n_layers // 4, n_layers // 2 - 1, n_layers // 2)
        self.sizes = (MAX_COUNT + 1, 2, len(COLORS), 2, 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in self.layers)
        self.linears = nn.ModuleList(nn.Linear(D_MODEL, sum(self.sizes)) for _ in self.layers)

    def losses(self, depth: int, states: Tensor, g: Grounding) -> dict[str, Tensor]:
        """Return each loss of the read-out `depth` (0, 1, 2) from (n_nouns, d_model) states."""
        out = self.linears[depth](self.norms[depth](states)).float()
        count, place, color, gap, direction, holds = out.split(self.sizes, dim=-1)
        related = g.holds >= 0
        if depth == 2:
            if not related.any():
                return {}
            truth = g.holds[related].float()
            along = (g.gap[related] * g.direction[related]).sum(-1)
            return {
                "holds": functional.binary_cross_entropy_with_logits(holds[related, 0], truth),
                "along": 5 * functional.smooth_l1_loss(holds[related, 1], along),
            }
        losses = {"count": functional.cross_entropy(count, g.n_objects)}
        there = g.n_objects > 0
        if there.any():
            losses["place"] = 5 * functional.smooth_l1_loss(place[there], g.place[there])
        if (g.color >= 0).any():
            losses["color"] = 0.3 * functional.cross_entropy(color, g.color, ignore_index=-100)
        if depth == 1 and related.any():
            losses["gap"] = 5 * functional.smooth_l1_loss(gap[related], g.gap[related])
            losses["direction"] = functional.mse_loss(direction[related], g.direction[related])
        return losses


class LanguageOutputs(NamedTuple):
    """What the decoder computed for a packed batch."""

    logits: Tensor
    """(n_labels, vocabulary), float32."""
    noun_states: list[Tensor]
    """(n_nouns, d_model) after each of the grounding layers."""


def run_packed(
    model: PreTrainedModel,
    batch: PackedBatch,
    image_embeddings: Tensor,
    *,
    prefix_lm: bool,
    image_sees_question: bool = False,
    grounding_layers: Sequence[int] = (),
) -> LanguageOutputs:
    """Run the decoder on a packed batch whose images are already embedded.

    Args:
        model: any of the three families.
        batch: the packed sequences.
        image_embeddings: (all image tokens of the batch, d_model), in the order of the rows.
        prefix_lm: see `attention_mask`.
        image_sees_question: see `attention_mask`.
        grounding_layers: decoder layers whose noun states are wanted.
    """
    language = model.model.language_model
    embeddings = model.get_input_embeddings()(batch.input_ids)
    is_image = (batch.input_ids == model.config.image_token_id) & (batch.block == 0)
    embeddings = embeddings.masked_scatter(
        is_image[..., None], image_embeddings.to(embeddings.dtype)
    )
    states: dict[int, Tensor] = {}
    hooks = [
        language.layers[layer].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: states.__setitem__(layer, output)
        )
        for layer in grounding_layers
    ]
    try:
        hidden = language(
            inputs_embeds=embeddings,
            attention_mask=attention_mask(
                batch, prefix_lm=prefix_lm, image_sees_question=image_sees_question
            ),
            position_ids=batch.position_ids,
            use_cache=False,
            n_context=batch.n_context,
            # Blocks that the image sees leave no scores to spare: attention is dense then.
            n_blocks=0 if image_sees_question else batch.n_blocks,
        ).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    logits = model.lm_head(hidden[batch.label_image, batch.label_position]).float()
    g = batch.grounding
    return LanguageOutputs(logits, [states[x][g.image, g.position] for x in grounding_layers])


def language_loss(
    outputs: LanguageOutputs, batch: PackedBatch, heads: GroundingHeads, grounding_weight: float
) -> StepOutcome:
    """Return the loss of answers and grounding, and accuracy by task."""
    losses = functional.cross_entropy(outputs.logits, batch.label, reduction="none")
    first = batch.label_task >= 0
    answering = (losses[first].sum() + _EOS_WEIGHT * losses[~first].sum()) / first.sum()
    loss = answering
    figures = {"answer_loss": answering.item()}
    if grounding_weight > 0 and len(batch.grounding.image) > 0:
        for depth, states in enumerate(outputs.noun_states):
            for name, part in heads.losses(depth, states, batch.grounding).items():
                loss = loss + grounding_weight * part
                figures[f"{name}_{depth}"] = part.item()
    right = outputs.logits.argmax(-1) == batch.label
    for index, task in enumerate(TASKS):
        mine = batch.label_task == index
        if mine.any():
            figures[task] = right[mine].float().mean().item()
    return StepOutcome(loss, figures)

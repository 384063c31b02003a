"""Configurations and builders of the three embedded vision-language models.

Every model is an ordinary transformers class, shrunk: a decoder of 128 dimensions, a vision
tower that turns each cell of 8×8 pixels into one token, 1.4 to 1.9 million float32 weights.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
)

from vrp.zoo.tokenizer import SpecialIds

Family = Literal["llava", "paligemma", "qwen2_vl"]
FAMILIES: Final[tuple[Family, ...]] = ("llava", "paligemma", "qwen2_vl")

D_MODEL: Final = 128
IMAGE_SIDE: Final = 96
"""Input side, in pixels, of the two towers with a fixed resolution."""
CELL: Final = 8
"""Side, in pixels, of the square that one image token stands for."""

_N_HEADS: Final = 4
_HEAD_DIM: Final = D_MODEL // _N_HEADS
_ROPE_THETA: Final = 1e6
_EMBEDDING_STD: Final = 0.05


def _text_settings(vocab_size: int, ids: SpecialIds) -> dict[str, Any]:
    """What the three decoders have in common."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": D_MODEL,
        "num_attention_heads": _N_HEADS,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_THETA},
        "bos_token_id": ids.bos,
        "eos_token_id": ids.eos,
        "pad_token_id": ids.pad,
    }


_TOWER: Final[dict[str, Any]] = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIDE,
    "patch_size": CELL,
    "projection_dim": D_MODEL,
}
"""The towers with a fixed resolution."""


def _llava_config(vocab_size: int, ids: SpecialIds) -> LlavaConfig:
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**_TOWER),
        text_config=LlamaConfig(
            intermediate_size=344,
            num_hidden_layers=6,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            **_text_settings(vocab_size, ids),
        ),
        image_token_id=ids.image,
        image_seq_length=(IMAGE_SIDE // CELL) ** 2,
        # The last layer, where LLaVA-1.5 takes the last but one: no layer of so small a tower
        # can be left unused.
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )


def _paligemma_config(vocab_size: int, ids: SpecialIds) -> PaliGemmaConfig:
    return PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_TOWER, vision_use_head=False),
        text_config=GemmaConfig(
            intermediate_size=288,
            num_hidden_layers=7,
            num_key_value_heads=1,
            head_dim=_HEAD_DIM,
            tie_word_embeddings=True,
            **_text_settings(vocab_size, ids),
        ),
        image_token_id=ids.image,
        projection_dim=D_MODEL,
        tie_word_embeddings=True,
        bos_token_id=ids.bos,
        eos_token_id=ids.eos,
        pad_token_id=ids.pad,
    )


def _qwen2_vl_config(vocab_size: int, ids: SpecialIds) -> Qwen2VLConfig:
    text = _text_settings(vocab_size, ids)
    return Qwen2VLConfig(
        vision_config={
            "depth": 3,
            "embed_dim": 80,
            "hidden_size": D_MODEL,
            "mlp_ratio": 4,
            "num_heads": 2,
            "patch_size": CELL // 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        text_config=text
        | {
            "intermediate_size": 288,
            "num_hidden_layers": 8,
            "num_key_value_heads": 2,
            "rope_parameters": text["rope_parameters"] | {"mrope_section": [4, 6, 6]},
        },
        image_token_id=ids.image,
        video_token_id=ids.video,
        vision_start_token_id=ids.vision_start,
        vision_end_token_id=ids.vision_end,
        tie_word_embeddings=True,
    )


_BUILDERS: Final[dict[Family, tuple[Callable[..., object], type[PreTrainedModel]]]] = {
    "llava": (_llava_config, LlavaForConditionalGeneration),
    "paligemma": (_paligemma_config, PaliGemmaForConditionalGeneration),
    "qwen2_vl": (_qwen2_vl_config, Qwen2VLForConditionalGeneration),
}


def build_model(family: Family, vocab_size: int, ids: SpecialIds, seed: int) -> PreTrainedModel:
    """Return an untrained model of a family, float32, a pure function of its arguments."""
    configure, model_class = _BUILDERS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(configure(vocab_size, ids))
        nn.init.normal_(model.get_input_embeddings().weight, std=_EMBEDDING_STD)
    model.generation_config.update(
        bos_token_id=ids.bos, eos_token_id=ids.eos, pad_token_id=ids.pad, do_sample=False
    )
    return model.eval()


class VisionParts(NamedTuple):
    """The two halves of a family's vision path."""

    encode: Callable[[dict[str, Tensor]], list[Tensor]]
    """Processor output → one (n_cells, d_vision) feature matrix per image, before projection."""
    project: Callable[[Tensor], Tensor]
    """(…, d_vision) features → (…, d_model) image embeddings, as the decoder receives them."""
    encoder: nn.Module
    """The tower's module (for Qwen2-VL it contains the projection too)."""
    projector: nn.Module
    """The projection's module."""
    d_vision: int
    """Width of the features before projection."""


def vision_parts(model: PreTrainedModel) -> VisionParts:
    """Split a model's vision path where its features enter the projection."""
    inner = model.model
    if isinstance(model, LlavaForConditionalGeneration):

        def encode_clip(inputs: dict[str, Tensor]) -> list[Tensor]:
            out = inner.vision_tower(inputs["pixel_values"], output_hidden_states=True)
            return list(out.hidden_states[model.config.vision_feature_layer][:, 1:])

        projector = inner.multi_modal_projector
        return VisionParts(encode_clip, projector, inner.vision_tower, projector, 96)
    if isinstance(model, PaliGemmaForConditionalGeneration):

        def encode_siglip(inputs: dict[str, Tensor]) -> list[Tensor]:
            return list(inner.vision_tower(inputs["pixel_values"]).last_hidden_state)

        projector = inner.multi_modal_projector
        return VisionParts(encode_siglip, projector, inner.vision_tower, projector, 96)
    visual = inner.visual
    width = visual.merger.hidden_size

    def encode_qwen2_vl(inputs: dict[str, Tensor]) -> list[Tensor]:
        grid = inputs["image_grid_thw"]
        patches = visual(inputs["pixel_values"], grid_thw=grid).last_hidden_state
        cells = visual.merger.ln_q(patches).view(-1, width)
        return list(cells.split((grid.prod(-1) // 4).tolist()))

    return VisionParts(encode_qwen2_vl, visual.merger.mlp, visual, visual.merger.mlp, width)


@torch.no_grad()
def initialize_for_matching(model: PreTrainedModel, word_ids: list[int], seed: int) -> None:
    """Start the decoder's heads as similarity kernels (mimetic initialisation, in place).

    Keys and queries of a head share one projection, so that a token first attends to tokens of
    like content (Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention Layers").
    The projection spans the leading directions of the embeddings `word_ids` and uses only the
    slow half of the rotary frequencies, which position barely turns. Values and outputs start
    as a small multiple of an orthogonal map and its transpose.
    """
    generator = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight[word_ids]
    directions = torch.linalg.svd(words - words.mean(0), full_matrices=True).Vh
    half = _HEAD_DIM // 2
    slow = [*range(half // 2, half), *range(half + half // 2, _HEAD_DIM)]
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        n_kv = attention.k_proj.weight.shape[0] // _HEAD_DIM
        queries_per_kv = _N_HEADS // n_kv
        for kv in range(n_kv):
            mix = torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
            basis = mix[: len(slow)] @ directions[:32]
            rows = kv * _HEAD_DIM + torch.tensor(slow)
            attention.k_proj.weight[rows] += 1.5 * basis
            for query in range(kv * queries_per_kv, (kv + 1) * queries_per_kv):
                attention.q_proj.weight[query * _HEAD_DIM + torch.tensor(slow)] += 1.5 * basis
            carried = torch.linalg.qr(torch.randn(D_MODEL, _HEAD_DIM, generator=generator)).Q
            attention.v_proj.weight[kv * _HEAD_DIM : (kv + 1) * _HEAD_DIM] += 0.3 * carried.T
            for query in range(kv * queries_per_kv, (kv + 1) * queries_per_kv):
                columns = slice(query * _HEAD_DIM, (query + 1) * _HEAD_DIM)
                attention.o_proj.weight[:, columns] += 0.3 * carried / queries_per_kv

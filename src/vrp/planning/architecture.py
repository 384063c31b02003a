"""A model's dimensions, read from its `config.json`, and its exact number of parameters."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vrp.errors import InputError

ImageSize = tuple[int, int]
"""Width and height in pixels."""

# Qwen2-VL refuses images that are longer than this many times their width, and the reverse.
_MOST_ELONGATED = 200

# What the model classes assume where a published config.json says nothing.
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
    "gemma": {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "qwen2_vl_text": {
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
}
_CLIP_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_SIGLIP_DEFAULTS = {**_CLIP_DEFAULTS, "patch_size": 16, "vision_use_head": True}
_QWEN2_VL_VISION_DEFAULTS = {
    "depth": 32,
    "embed_dim": 1280,
    "hidden_size": 3584,
    "mlp_ratio": 4,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_QWEN2_VL_PIXELS = (56 * 56, 14 * 14 * 4 * 1280)


class Linear(NamedTuple):
    """One dense layer."""

    d_in: int
    """Width of what enters."""
    d_out: int
    """Width of what leaves."""
    bias: bool
    """Whether it adds a bias."""

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        return (self.d_in + self.bias) * self.d_out


class ParameterCounts(NamedTuple):
    """Parameters by part; a tied unembedding counts once, in `embeddings`."""

    text: int
    """Decoder layers and final norm."""
    vision: int
    """Vision tower."""
    projector: int
    """From the vision tower's width to the decoder's."""
    embeddings: int
    """Token embeddings."""
    unembedding: int
    """Unembedding; 0 where it is tied to the embeddings."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


@dataclass(frozen=True)
class VisionTower:
    """A vision transformer over square patches."""

    kind: Literal["clip", "siglip", "qwen2_vl"]
    """Which class, for what differs: biases, norms, positions, class token."""
    n_layers: int
    """Transformer layers; all are run, also where an earlier one's features are taken."""
    d_model: int
    """Width."""
    n_heads: int
    """Attention heads."""
    d_ffn: int
    """Width inside the MLP."""
    patch_size: int
    """Pixels along a patch's side."""
    n_channels: int
    """Colour channels."""
    n_frames: int
    """Frames that a patch spans; a still image is repeated."""
    merge_size: int
    """Patches along the side of one image token."""
    n_positions: int
    """Learned positions, CLIP's class token included; 0 where positions are rotary."""

    @property
    def values_per_patch(self) -> int:
        """Numbers that enter the patch embedding."""
        return self.n_channels * self.n_frames * self.patch_size**2

    @property
    def n_extra_tokens(self) -> int:
        """Tokens beside the patches: CLIP's class token."""
        return 1 if self.kind == "clip" else 0

    def n_tokens(self, n_image_tokens: int) -> int:
        """Return the tokens that the tower runs on for an image of so many image tokens."""
        return n_image_tokens * self.merge_size**2 + self.n_extra_tokens

    @property
    def n_parameters(self) -> int:
        """All its parameters."""
        d, f = self.d_model, self.d_ffn
        attention = 4 * (d * d + d)
        mlp = (d * f + f) + (f * d + d)
        layers = self.n_layers * (attention + mlp + 2 * _layer_norm(d))
        shared = layers + self.values_per_patch * d + self.n_positions * d
        if self.kind == "clip":  # a class token, a norm before the layers and one after
            return shared + d + 2 * _layer_norm(d)
        if self.kind == "siglip":  # the patch embedding's bias, a norm after the layers
            return shared + d + _layer_norm(d)
        return shared  # the norm after the layers belongs to the projector


@dataclass(frozen=True)
class ImageRule:
    """How an image's size becomes a grid of image tokens."""

    token_side: int
    """Pixels along the side of an image token, after resizing."""
    side: int | None
    """Pixels along the side of the square that every image is made; None: size is dynamic."""
    min_pixels: int = 0
    """The least pixels after resizing, where the size is dynamic."""
    max_pixels: int = 0
    """The most pixels after resizing, where the size is dynamic."""

    def grid(self, image_size: ImageSize) -> tuple[int, int]:
        """Return rows and columns of image tokens for an image of (width, height) pixels.

        The dynamic rule is Qwen2-VL's: sides rounded to whole tokens, then scaled into the pixel
        bounds at the same shape.

        Raises:
            InputError: an image that the rule does not take.
        """
        if self.side is not None:
            return self.side // self.token_side, self.side // self.token_side
        width, height = image_size
        if min(width, height) < 1 or max(width, height) > _MOST_ELONGATED * min(width, height):
            raise InputError(
                f"an image of {width}×{height} pixels cannot be used: its sides must not differ "
                f"by more than a factor of {_MOST_ELONGATED}"
            )
        rows, columns = (round(edge / self.token_side) for edge in (height, width))
        n_pixels = rows * columns * self.token_side**2
        if n_pixels > self.max_pixels:
            scale = math.sqrt(height * width / self.max_pixels)
            rows, columns = (
                max(1, math.floor(edge / scale / self.token_side)) for edge in (height, width)
            )
        elif n_pixels < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            rows, columns = (math.ceil(edge * scale / self.token_side) for edge in (height, width))
        return rows, columns


@dataclass(frozen=True)
class Architecture:
    """Everything about a vision-language model that its cost depends on."""

    family: str
    """Family in the registry."""
    n_layers: int
    """Decoder layers L."""
    d_model: int
    """Width of the residual stream."""
    n_heads: int
    """Query heads."""
    n_kv_heads: int
    """Key and value heads."""
    d_head: int
    """Width of a head."""
    d_ffn: int
    """Width inside the gated MLP."""
    vocabulary: int
    """Rows of the unembedding."""
    max_positions: int
    """Longest sequence, in tokens."""
    qkv_bias: bool
    """Whether query, key and value projections add biases."""
    tied_embeddings: bool
    """Whether the unembedding is the embedding."""
    image_token_id: int
    """Placeholder token of an image."""
    vision: VisionTower
    """The vision tower."""
    projector: tuple[Linear, ...]
    """From the tower to the decoder, per image token."""
    projector_norm: int
    """Width of the norm that leads the projector; 0 for none."""
    image_rule: ImageRule
    """From image size to image tokens."""

    def grid(self, image_size: ImageSize) -> tuple[int, int]:
        """Return rows and columns of image tokens for an image of (width, height) pixels."""
        return self.image_rule.grid(image_size)

    def n_image_tokens(self, image_size: ImageSize) -> int:
        """Return S for an image of (width, height) pixels."""
        rows, columns = self.grid(image_size)
        return rows * columns

    def with_pixel_bounds(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> "Architecture":
        """Return the same with other pixel bounds, as a config may set them.

        Raises:
            InputError: the family makes every image one size.
        """
        if min_pixels is None and max_pixels is None:
            return self
        rule = self.image_rule
        if rule.side is not None:
            raise InputError(
                f"family {self.family!r} resizes every image to one size: "
                "remove min_pixels and max_pixels"
            )
        rule = replace(
            rule,
            min_pixels=rule.min_pixels if min_pixels is None else min_pixels,
            max_pixels=rule.max_pixels if max_pixels is None else max_pixels,
        )
        return replace(self, image_rule=rule)

    @property
    def attention_projections(self) -> tuple[Linear, ...]:
        """Query, key, value and output projection of one decoder layer."""
        joined, shared = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        return (
            Linear(self.d_model, joined, self.qkv_bias),
            Linear(self.d_model, shared, self.qkv_bias),
            Linear(self.d_model, shared, self.qkv_bias),
            Linear(joined, self.d_model, False),
        )

    @property
    def mlp_projections(self) -> tuple[Linear, ...]:
        """Gate, up and down projection of one decoder layer."""
        return (
            Linear(self.d_model, self.d_ffn, False),
            Linear(self.d_model, self.d_ffn, False),
            Linear(self.d_ffn, self.d_model, False),
        )

    @property
    def parameters(self) -> ParameterCounts:
        """Exact parameters of each part."""
        dense = sum(p.n_parameters for p in self.attention_projections + self.mlp_projections)
        norms = 2 * self.d_model
        projector = sum(layer.n_parameters for layer in self.projector)
        return ParameterCounts(
            text=self.n_layers * (dense + norms) + self.d_model,
            vision=self.vision.n_parameters,
            projector=projector + _layer_norm(self.projector_norm),
            embeddings=self.vocabulary * self.d_model,
            unembedding=0 if self.tied_embeddings else self.vocabulary * self.d_model,
        )


def read_architecture(
    config: Mapping[str, Any], image_processor: Mapping[str, Any] | None = None
) -> Architecture:
    """Read a checkpoint's `config.json` and, where image sizes are dynamic, its image processor's.

    Fields that a published file leaves out have the model class's defaults.

    Raises:
        InputError: a family or a variant of one whose dimensions cannot be read, or a field that
            is missing.
    """
    family = config.get("model_type")
    reader = _READERS.get(str(family))
    if reader is None:
        raise InputError(
            f"the dimensions of a {family!r} model cannot be read from its config.json; "
            f"known model types: {', '.join(sorted(_READERS))}"
        )
    return reader(config, image_processor or {})


def read_checkpoint_folder(folder: Path) -> Architecture:
    """Read the dimensions of a checkpoint from its folder; its weights need not be there.

    Raises:
        InputError: no `config.json`, a damaged file, or what `read_architecture` raises.
    """
    config = _json_file(folder / "config.json")
    if config is None:
        raise InputError(f"{folder}: holds no config.json; give a checkpoint's folder")
    image_processor = _json_file(folder / "preprocessor_config.json")
    if image_processor is None:  # newer checkpoints keep it inside the processor's file
        whole = _json_file(folder / "processor_config.json") or {}
        image_processor = whole.get("image_processor", {})
    return read_architecture(config, image_processor)


def _json_file(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path}: is not a JSON object; fetch it again")
    return fields


def _llava(config: Mapping[str, Any], image_processor: Mapping[str, Any]) -> Architecture:
    text = _text(config, "llama")
    vision = _part(config, "vision_config", {"clip_vision_model": _CLIP_DEFAULTS})
    if not isinstance(config.get("vision_feature_layer", -2), int):
        raise InputError("LLaVA with features of several vision layers is not supported")
    bias = bool(config.get("multimodal_projector_bias", True))
    d_model = text["d_model"]
    crop = image_processor.get("crop_size") or {}
    return Architecture(
        family="llava",
        **text,
        image_token_id=int(config.get("image_token_index", config.get("image_token_id", 32000))),
        vision=_square_tower("clip", vision),
        projector=(
            Linear(vision["hidden_size"], d_model, bias),
            Linear(d_model, d_model, bias),
        ),
        projector_norm=0,
        image_rule=ImageRule(vision["patch_size"], side=crop.get("height", vision["image_size"])),
    )


def _paligemma(config: Mapping[str, Any], image_processor: Mapping[str, Any]) -> Architecture:
    text = _text(config, "gemma", tied_by_default=True)
    vision = _part(config, "vision_config", {"siglip_vision_model": _SIGLIP_DEFAULTS})
    if vision["vision_use_head"]:
        raise InputError("a SigLIP tower with a pooling head (vision_use_head) is not supported")
    return Architecture(
        family="paligemma",
        **text,
        image_token_id=int(config.get("image_token_index", config.get("image_token_id", 256000))),
        vision=_square_tower("siglip", vision),
        projector=(Linear(vision["hidden_size"], int(config.get("projection_dim", 2048)), True),),
        projector_norm=0,
        image_rule=ImageRule(vision["patch_size"], side=vision["image_size"]),
    )


def _qwen2_vl(config: Mapping[str, Any], image_processor: Mapping[str, Any]) -> Architecture:
    # Published files hold the language model's fields at the top.
    nested = "text_config" in config
    text = _text(config if nested else {**config, "text_config": config}, "qwen2_vl_text")
    kinds = {"qwen2_vl_vision": _QWEN2_VL_VISION_DEFAULTS, "qwen2_vl": _QWEN2_VL_VISION_DEFAULTS}
    vision = _part(config, "vision_config", kinds, default="qwen2_vl_vision")
    merge, patch, width = vision["spatial_merge_size"], vision["patch_size"], vision["embed_dim"]
    merged = width * merge**2
    low, high = _pixel_bounds(image_processor)
    return Architecture(
        family="qwen2_vl",
        **text,
        image_token_id=int(config.get("image_token_id", 151655)),
        vision=VisionTower(
            kind="qwen2_vl",
            n_layers=vision["depth"],
            d_model=width,
            n_heads=vision["num_heads"],
            d_ffn=int(width * vision["mlp_ratio"]),
            patch_size=patch,
            n_channels=vision["in_channels"],
            n_frames=vision["temporal_patch_size"],
            merge_size=merge,
            n_positions=0,
        ),
        projector=(Linear(merged, merged, True), Linear(merged, vision["hidden_size"], True)),
        projector_norm=width,
        image_rule=ImageRule(merge * patch, side=None, min_pixels=low, max_pixels=high),
    )


_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Architecture]] = {
    "llava": _llava,
    "paligemma": _paligemma,
    "qwen2_vl": _qwen2_vl,
}


def _text(
    config: Mapping[str, Any], model_type: str, *, tied_by_default: bool = False
) -> dict[str, Any]:
    """Return the language model's fields of `Architecture`."""
    kinds = {model_type: _TEXT_DEFAULTS[model_type], "qwen2_vl": _TEXT_DEFAULTS["qwen2_vl_text"]}
    text = _part(config, "text_config", kinds, default=model_type)
    n_heads = int(text["num_attention_heads"])
    tied = bool(config.get("tie_word_embeddings", tied_by_default))
    if model_type != "gemma":  # the language model's own setting counts where it says so
        tied = tied or bool(text["tie_word_embeddings"])
    if text.get("attention_bias") or text.get("mlp_bias"):
        raise InputError("language models with attention_bias or mlp_bias are not supported")
    return {
        "n_layers": int(text["num_hidden_layers"]),
        "d_model": int(text["hidden_size"]),
        "n_heads": n_heads,
        "n_kv_heads": int(text.get("num_key_value_heads") or n_heads),
        "d_head": int(text.get("head_dim") or text["hidden_size"] // n_heads),
        "d_ffn": int(text["intermediate_size"]),
        "vocabulary": int(text["vocab_size"]),
        "max_positions": int(text["max_position_embeddings"]),
        "qkv_bias": model_type == "qwen2_vl_text",
        "tied_embeddings": tied,
    }


def _part(
    config: Mapping[str, Any],
    key: str,
    kinds: Mapping[str, Mapping[str, Any]],
    *,
    default: str | None = None,
) -> dict[str, Any]:
    """Return one part of a configuration, with its class's defaults where it says nothing."""
    part = config.get(key)
    if not isinstance(part, Mapping):
        raise InputError(f"config.json has no {key}; give the checkpoint's whole config.json")
    kind = part.get("model_type", default if default else next(iter(kinds)))
    if kind not in kinds:
        raise InputError(
            f"{key} is of model type {kind!r}; dimensions can be read of: {', '.join(kinds)}"
        )
    given = {name: value for name, value in part.items() if value is not None}
    return {**kinds[kind], **given}


def _square_tower(kind: Literal["clip", "siglip"], vision: Mapping[str, Any]) -> VisionTower:
    n_patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return VisionTower(
        kind=kind,
        n_layers=vision["num_hidden_layers"],
        d_model=vision["hidden_size"],
        n_heads=vision["num_attention_heads"],
        d_ffn=vision["intermediate_size"],
        patch_size=vision["patch_size"],
        n_channels=vision["num_channels"],
        n_frames=1,
        merge_size=1,
        n_positions=n_patches + (1 if kind == "clip" else 0),
    )


def _pixel_bounds(image_processor: Mapping[str, Any]) -> tuple[int, int]:
    size = image_processor.get("size") or {}
    low = image_processor.get("min_pixels") or size.get("shortest_edge") or _QWEN2_VL_PIXELS[0]
    high = image_processor.get("max_pixels") or size.get("longest_edge") or _QWEN2_VL_PIXELS[1]
    return int(low), int(high)


def _layer_norm(width: int) -> int:
    """Parameters of a layer norm: gain and shift."""
    return 2 * width

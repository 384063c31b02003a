"""Measure a model's dimensions without its weights, from its configuration alone.

The model is built on the meta device with its own transformers class. Its decoder runs prompts of
two lengths and its vision side images of one or two sizes, as shapes (`vrp.vlm.shape_only`); torch
counts the operations, the shapes tell the memory. Prompts and images of other sizes follow: both
are linear in tokens, operations of attention quadratic.
"""

import math
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, DynamicCache
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from vrp.errors import InputError
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.config_and_processor import load_config, load_image_processor, load_tokenizer
from vrp.vlm.dimensions import Activations, Dimensions, ImageRule, Quadratic
from vrp.vlm.families import get_family
from vrp.vlm.families.auto import WHOLE_IMAGE
from vrp.vlm.families.base import Family, FamilyOptions
from vrp.vlm.shape_only import ShapeOnly

# Where the tokenizer is not there, as for a configuration by itself.
_ASSUMED_FRAME_TOKENS = 30
# Prompt lengths, and image tokens along the side of an image where its size decides: whole windows
# of the towers that attend in windows.
_LENGTHS = (256, 1024)
_SIDES = (8, 32)
_TRIED_SIZE = (640, 480)
_SDPA = torch.ops.aten.scaled_dot_product_attention


class _Trace(NamedTuple):
    """One run of shapes."""

    n_tokens: int
    """Tokens of the prompt, or image tokens."""
    flops: int
    """Operations."""
    peak_bytes: int
    """Bytes of tensors alive at most, beside the weights."""


def measure_folder(folder: Path, family: str) -> Dimensions:
    """Measure a checkpoint from its folder; its weights need not be there.

    Args:
        folder: holds `config.json`; the prompt's frame is measured where a tokenizer is beside it,
            and the image processor's settings are its class's where it has no file.
        family: name of the family, whose prompt it is.

    Raises:
        InputError: a model that transformers does not build, or that cannot be measured.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no config.json; give a checkpoint's folder")
    try:
        config = load_config(folder)
        image_processor = _image_processor(folder, config)
        frame = _n_frame_tokens(folder, family, config, image_processor)
        return _measure(config, image_processor, frame, get_family(family))
    except InputError:
        raise
    except Exception as error:  # of modelling code that this project does not know
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise InputError(
            f"the dimensions of {folder} cannot be measured ({reason}); check its config.json"
        ) from error


def _image_processor(folder: Path, config: Any) -> Any:
    """Return the checkpoint's image processor; one image stays whole."""
    files = ("preprocessor_config.json", "processor_config.json")
    if any((folder / name).is_file() for name in files):
        processor = load_image_processor(folder)
    else:
        processor = getattr(transformers, IMAGE_PROCESSOR_MAPPING_NAMES[config.model_type]["pil"])()
        side = getattr(config.vision_config, "image_size", None)
        if side is not None:
            height, width = side if isinstance(side, list | tuple) else (side, side)
            processor.size = processor.crop_size = {"height": height, "width": width}
    for switch, setting in WHOLE_IMAGE.items():
        if hasattr(processor, switch):
            setattr(processor, switch, setting)
    return processor


def _n_frame_tokens(folder: Path, family: str, config: Any, image_processor: Any) -> int:
    if not (folder / "tokenizer_config.json").is_file():
        return _ASSUMED_FRAME_TOKENS
    tokenizer = load_tokenizer(folder)
    bound = get_family(family).from_checkpoint(
        str(folder), None, config, tokenizer, image_processor, FamilyOptions()
    )
    return len(bound.prompt_token_ids([""])[0]) - 1


def _refuse_other_inputs(model: Any) -> None:
    """Refuse images of more than pixels and grids, such as tiles: no family reads them."""
    needed = [
        name
        for name, one in signature(model.get_image_features).parameters.items()
        if one.default is one.empty
        and one.kind is not one.VAR_KEYWORD
        and name not in ("pixel_values", "image_grid_thw")
    ]
    if needed:
        raise InputError(
            f"{model.config.model_type} needs {', '.join(needed)} beside an image's pixels, as "
            "models do that cut an image into tiles; such a model needs a family of its own"
        )


def _measure(
    config: Any, image_processor: Any, n_frame_tokens: int, family: type[Family]
) -> Dimensions:
    published = config.dtype or torch.bfloat16  # building sets it to what is built
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.eval().requires_grad_(False)
    _refuse_other_inputs(model)
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    text = config.get_text_config()
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    d_model, n_heads = int(text.hidden_size), int(text.num_attention_heads)
    dynamic = "image_grid_thw" in signature(model.get_image_features).parameters
    encode = _encode_patches if dynamic else partial(_encode_pixels, image_processor)
    prompts = [_trace(_prefill, model, n) for n in _LENGTHS]
    images = [_trace(encode, model, side) for side in (_SIDES if dynamic else _SIDES[-1:])]
    model.to(torch.float32)
    in_float32 = _trace(_prefill, model, _LENGTHS[-1]), _trace(encode, model, _SIDES[-1])
    token_flops, pair_flops = _coefficients(*prompts)
    return Dimensions(
        model_type=config.model_type,
        n_parameters=n_parameters,
        checkpoint_bytes=n_parameters * published.itemsize,
        n_layers=int(text.num_hidden_layers),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=int(getattr(text, "num_key_value_heads", None) or n_heads),
        d_head=int(getattr(text, "head_dim", None) or d_model // n_heads),
        vocabulary=int(model.get_output_embeddings().weight.shape[0]),
        n_frame_tokens=n_frame_tokens,
        images=_dynamic_rule(config.vision_config, image_processor) if dynamic
        else ImageRule(images[0].n_tokens),
        token_flops=token_flops,
        pair_flops=pair_flops,
        image_flops=Quadratic(0, *_coefficients(*images)) if dynamic
        else Quadratic(images[0].flops, 0, 0),
        in_16_bits=_activations(prompts[-1], images[-1], dynamic=dynamic),
        in_32_bits=_activations(*in_float32, dynamic=dynamic),
        is_causal=family.is_causal,
        drops_tokens=family.drops_tokens(model),
    )  # fmt: skip


def _coefficients(small: _Trace, large: _Trace) -> tuple[int, int]:
    """Return a and b of a·n + b·n² operations that both runs took."""
    n, m = small.n_tokens, large.n_tokens
    b = (large.flops * n - small.flops * m) // (n * m * (m - n))
    return small.flops // n - b * n, b


def _activations(prompt: _Trace, image: _Trace, *, dynamic: bool) -> Activations:
    token = math.ceil(prompt.peak_bytes / prompt.n_tokens)
    if dynamic:
        return Activations(token, Quadratic(0, math.ceil(image.peak_bytes / image.n_tokens), 0))
    return Activations(token, Quadratic(image.peak_bytes, 0, 0))


def _dynamic_rule(vision: Any, image_processor: Any) -> ImageRule:
    """Return Qwen2-VL's rule with the image processor's bounds, tried on one image."""
    merge = int(vision.spatial_merge_size)
    size = image_processor.size
    rule = ImageRule(
        None, int(vision.patch_size) * merge,
        min_pixels=int(size["shortest_edge"]), max_pixels=int(size["longest_edge"]),
    )  # fmt: skip
    processed = image_processor(images=[Image.new("RGB", _TRIED_SIZE)], return_tensors="pt")
    grid = tuple(int(side) // merge for side in processed["image_grid_thw"][0, 1:])
    if grid != rule.grid(_TRIED_SIZE):
        raise InputError(
            f"its image processor makes {grid} tokens of a {_TRIED_SIZE} image, not "
            f"{rule.grid(_TRIED_SIZE)} as Qwen2-VL's does"
        )
    return rule


# What is traced: each makes its inputs, so that they count too, and returns its tokens.


def _prefill(model: Any, n_tokens: int) -> int:
    d_model = model.config.get_text_config().hidden_size
    mask = torch.ones(1, n_tokens, dtype=torch.long)
    mask[0, 0] = 0  # padding, as in most batches: without any, there is no mask
    model.get_decoder()(
        inputs_embeds=torch.empty(1, n_tokens, d_model, dtype=model.dtype, device="meta"),
        attention_mask=mask,
        past_key_values=DynamicCache(),
        use_cache=True,
    )
    return n_tokens


def _encode_patches(model: Any, side: int) -> int:
    """Encode an image of side × side tokens, where sizes are dynamic."""
    vision = model.config.vision_config
    n_rows = side * vision.spatial_merge_size
    n_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.empty(n_rows**2, n_values, dtype=model.dtype, device="meta")
    return _n_features(model, pixels, image_grid_thw=torch.tensor([[1, n_rows, n_rows]]))


def _encode_pixels(image_processor: Any, model: Any, side: int) -> int:
    """Encode an image of the one size that the image processor makes."""
    processed = image_processor(images=[Image.new("RGB", _TRIED_SIZE)], return_tensors="pt")
    shape = processed["pixel_values"].shape
    return _n_features(model, torch.empty(shape, dtype=model.dtype, device="meta"))


def _n_features(model: Any, pixels: torch.Tensor, **layout: torch.Tensor) -> int:
    features = model.get_image_features(pixels, **layout, return_dict=True).pooler_output
    return sum(part.numel() // part.shape[-1] for part in features)


def _trace(run: Callable[[Any, int], int], model: Any, size: int) -> _Trace:
    counter = FlopCounterMode(display=False, custom_mapping=_FUSED)
    with torch.inference_mode(), ShapeOnly() as shapes, counter:
        n_tokens = run(model, size)
        return _Trace(n_tokens, counter.get_total_flops(), shapes.peak_bytes)


def _attention_flops(query: Any, key: Any, value: Any, *options: Any, **named: Any) -> int:
    """Operations of attention in one piece; in its parts, T×T maps would count as memory."""
    batch, n_heads, n_queries, width = query.shape
    return 2 * batch * n_heads * n_queries * key.shape[2] * (width + value.shape[3])


_attention_flops._get_raw = True  # type: ignore[attr-defined]  # to be given tensors, not shapes
_FUSED: dict[Any, Any] = {_SDPA: _attention_flops, _SDPA.default: _attention_flops}

"""Prove at full size, without weights, that everything extraction touches is where it is sought.

A published configuration is built on the meta device with the real model class, and the engine
answers a mixed batch on it with everything captured: real images, grids, masks and lengths, shapes
in place of values (`vrp.vlm.shape_only`). The tokenizer alone is a stand-in.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText

from vrp.errors import InputError
from vrp.planning.architecture import Architecture, ParameterCounts, read_architecture
from vrp.planning.compute import ItemFlops, item_flops
from vrp.planning.memory import Memory, predict_memory
from vrp.planning.published import PublishedCheckpoint, published_checkpoint
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import POSITIONS, CaptureSpec, ItemCapture, run_batch
from vrp.vlm.families import get_family
from vrp.vlm.families.base import FamilyOptions, ImageSize
from vrp.vlm.loading import DTYPES
from vrp.vlm.model import VLM
from vrp.vlm.prefill import prepare
from vrp.vlm.shape_only import ShapeOnly
from vrp.vlm.tap import ATTENTION_NAME

IMAGE_SIZES: tuple[ImageSize, ...] = ((640, 480), (480, 640), (333, 500), (24, 30))
"""Width and height of the images tried: landscape, portrait, odd sides, tiny."""

_QUESTION = "Is there a {} in the image?"
_N_ANSWER_TOKENS = 3
# What leaves the meta device is ones: with another end-of-sequence token answers run on.
_EOS_TOKEN_ID = 0


class TracedMemory(NamedTuple):
    """Bytes of floating-point tensors alive at most, beside the weights."""

    encode: int
    """While the batch was prepared: images through the vision tower."""
    run: int
    """From prefill to answers."""

    @property
    def peak(self) -> int:
        """The larger one."""
        return max(self)


class FullSizeReport(NamedTuple):
    """What was found of one checkpoint; all of it agrees with its published configuration."""

    name: str
    """Short name."""
    checkpoint: str
    """Model id whose configuration was built."""
    family: str
    """Family in the registry."""
    n_layers: int
    """Decoder layers."""
    d_model: int
    """Width of the residual stream."""
    n_heads: int
    """Query heads."""
    n_kv_heads: int
    """Key and value heads."""
    d_head: int
    """Width of a head."""
    vocabulary: int
    """Rows of the unembedding."""
    image_token_id: int
    """Placeholder token of an image."""
    grids: dict[ImageSize, tuple[int, int]]
    """Rows and columns of image tokens, by the image's width and height."""
    parameters: ParameterCounts
    """Parameters of each part, counted on the model and equal to the formula's."""
    dtype: str
    """Data type of weights and activations."""
    batch_size: int
    """Items of the batch that was answered."""
    n_prompt_tokens: int
    """Its longest prompt, to which the others were padded."""
    memory: Memory
    """Predicted memory of that batch, everything captured."""
    traced: TracedMemory
    """What the tensors of that batch took."""
    flops: ItemFlops
    """Operations of its longest item, everything captured."""

    @property
    def bytes_per_item(self) -> int:
        """Predicted bytes of one item of the batch, beside the weights."""
        return self.memory.activations // self.batch_size


def check_full_size(
    name: str,
    *,
    dtype: str = "bfloat16",
    image_sizes: Sequence[ImageSize] = IMAGE_SIZES,
    n_answer_tokens: int = _N_ANSWER_TOKENS,
) -> FullSizeReport:
    """Build a published checkpoint's configuration without weights, and check all that is read.

    Args:
        name: short name or model id, see `vrp.planning.published`.
        dtype: float32, bfloat16 or float16.
        image_sizes: (width, height) of the batch's images, one item each.
        n_answer_tokens: length of the answers.

    Raises:
        InputError: an unknown checkpoint, or the first thing found that is not as published.
    """
    published = published_checkpoint(name)
    architecture = read_architecture(published.config, published.image_processor)
    vlm = build_model(published, dtype=dtype)
    _require_equal(published, _structure(vlm, architecture))
    grids = {size: architecture.grid(size) for size in image_sizes}
    _require_equal(published, _grids(vlm, architecture, image_sizes))
    inputs = _inputs(image_sizes)
    spec = CaptureSpec.full(hidden=POSITIONS)
    captures, traced = trace_batch(vlm, inputs, spec, max_new_tokens=n_answer_tokens)
    _require_equal(published, _shapes(captures, architecture, image_sizes, n_answer_tokens))
    longest = max(captures, key=lambda capture: capture.n_prompt_tokens)
    n_image_tokens = max(height * width for height, width in grids.values())
    n_tokens = longest.n_prompt_tokens
    return FullSizeReport(
        name=published.name,
        checkpoint=published.checkpoint,
        family=vlm.family.name,
        n_layers=vlm.n_layers,
        d_model=vlm.d_model,
        n_heads=vlm.n_heads,
        n_kv_heads=architecture.n_kv_heads,
        d_head=architecture.d_head,
        vocabulary=int(vlm.lm_head.weight.shape[0]),
        image_token_id=vlm.image_token_id,
        grids=grids,
        parameters=count_parameters(vlm),
        dtype=dtype,
        batch_size=len(inputs),
        n_prompt_tokens=n_tokens,
        memory=predict_memory(
            architecture,
            n_tokens=n_tokens,
            batch_size=len(inputs),
            capture=spec,
            dtype=dtype,
            n_image_tokens=n_image_tokens,
        ),
        traced=traced,
        flops=item_flops(
            architecture,
            n_image_tokens=longest.grid_h * longest.grid_w,
            n_tokens=n_tokens,
            n_answer_tokens=n_answer_tokens,
            capture=spec,
        ),
    )


def build_model(
    published: PublishedCheckpoint, *, dtype: str = "bfloat16", device: str = "meta"
) -> VLM:
    """Return a published checkpoint as loaded, with a stand-in for the tokenizer.

    On the meta device it has shapes alone; on any other, random weights from torch's generator.

    Raises:
        InputError: an unknown dtype, or a model class that is not the family's.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; choose from: {', '.join(DTYPES)}")
    family_class = get_family(published.family)
    model_class: Any = family_class.model_class
    config = model_class.config_class.from_dict(copy.deepcopy(published.config))
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=DTYPES[dtype])
    _require_equal(published, iter([_Finding("model class", type(model), model_class)]))
    model.eval().requires_grad_(False)
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    tokenizer = _StandInTokenizer(config.image_token_id)
    image_processor = _image_processor(published.image_processor)
    family = family_class(config, tokenizer, image_processor, FamilyOptions())
    family.bind(model)
    return VLM(model=model, family=family, tokenizer=tokenizer, eos_token_ids=(_EOS_TOKEN_ID,))


def trace_batch(
    vlm: VLM, inputs: Sequence[VlmInput], capture: CaptureSpec, *, max_new_tokens: int
) -> tuple[list[ItemCapture], TracedMemory]:
    """Answer a batch on a meta model; return captures of true shapes, and the memory it took."""
    with ShapeOnly() as shapes:
        prepared = prepare(vlm, inputs, max_new_tokens=max_new_tokens)
        encode = shapes.peak_bytes
        shapes.reset_peak()
        captures = run_batch(vlm, prepared, capture, max_new_tokens=max_new_tokens)
        return captures, TracedMemory(encode, shapes.peak_bytes)


def count_parameters(vlm: VLM) -> ParameterCounts:
    """Count a model's parameters part by part; shared ones count once, in the embeddings."""
    model = vlm.model
    embedding = model.get_input_embeddings().weight
    unembedding = vlm.lm_head.weight
    text = _n_parameters(model.model.language_model) - embedding.numel()
    if hasattr(model.model, "visual"):  # Qwen2-VL's projector is the tower's last module
        projector = _n_parameters(model.model.visual.merger)
        vision = _n_parameters(model.model.visual) - projector
    else:
        projector = _n_parameters(model.model.multi_modal_projector)
        vision = _n_parameters(model.model.vision_tower)
    return ParameterCounts(
        text=text,
        vision=vision,
        projector=projector,
        embeddings=embedding.numel(),
        unembedding=0 if unembedding is embedding else unembedding.numel(),
    )


def _n_parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _Finding(NamedTuple):
    what: str
    found: object
    expected: object


def _require_equal(published: PublishedCheckpoint, findings: Iterator[_Finding]) -> None:
    for what, found, expected in findings:
        if found != expected:
            raise InputError(
                f"{published.checkpoint} as built by transformers {transformers.__version__}: "
                f"{what} is {found}, expected {expected}; use a version that this project names"
            )


def _structure(vlm: VLM, architecture: Architecture) -> Iterator[_Finding]:
    """Everything that is looked up in the model, and its size."""
    model, family, text = vlm.model, vlm.family, vlm.text_config
    d_model, joined = architecture.d_model, architecture.n_heads * architecture.d_head
    yield _Finding("decoder layers", vlm.n_layers, architecture.n_layers)
    yield _Finding("configured layers", text.num_hidden_layers, architecture.n_layers)
    yield _Finding("query heads", vlm.n_heads, architecture.n_heads)
    yield _Finding("key heads", text.num_key_value_heads, architecture.n_kv_heads)
    yield _Finding("width", vlm.d_model, d_model)
    yield _Finding("context", vlm.max_positions, architecture.max_positions)
    yield _Finding("image token", vlm.image_token_id, architecture.image_token_id)
    layers: Sequence[Any] = list(vlm.layers)
    for index, layer in enumerate(layers):
        place = f"of layer {index}"
        inside = set(layer.modules())
        output = family.attention_output(layer)
        yield _Finding(f"layer_idx {place}", layer.self_attn.layer_idx, index)
        yield _Finding(f"o_proj {place}", tuple(output.weight.shape), (d_model, joined))
        yield _Finding(f"o_proj bias {place}", output.bias is None, True)
        yield _Finding(f"attention writer {place}", family.attention_writer(layer) in inside, True)
        yield _Finding(f"MLP writer {place}", family.mlp_writer(layer) in inside, True)
        width = tuple(layer.mlp.down_proj.weight.shape)
        yield _Finding(f"down_proj {place}", width, (d_model, architecture.d_ffn))
    yield _Finding("final norm", tuple(family.norm_gain(vlm.final_norm).shape), (d_model,))
    yield _Finding("norm epsilon", family.norm_epsilon(vlm.final_norm), text.rms_norm_eps)
    unembedding = tuple(vlm.lm_head.weight.shape)
    yield _Finding("lm_head", unembedding, (architecture.vocabulary, d_model))
    tied = vlm.lm_head.weight is model.get_input_embeddings().weight
    yield _Finding("tied embeddings", tied, architecture.tied_embeddings)
    yield _Finding("text attention", text._attn_implementation, ATTENTION_NAME)
    of_vision = model.config.vision_config._attn_implementation
    yield _Finding("tapped vision attention", of_vision == ATTENTION_NAME, False)
    yield _Finding("parameters", count_parameters(vlm), architecture.parameters)
    yield _Finding("all parameters", _n_parameters(model), architecture.parameters.total)


def _grids(
    vlm: VLM, architecture: Architecture, image_sizes: Sequence[ImageSize]
) -> Iterator[_Finding]:
    for size in image_sizes:
        place = f"of a {size[0]}×{size[1]} image"
        grid = vlm.grid(size)
        yield _Finding(f"grid {place}", tuple(grid), architecture.grid(size))
        yield _Finding(f"boxes {place}", vlm.patch_boxes(size).shape, (grid.n_tokens, 4))


def _shapes(
    captures: Sequence[ItemCapture],
    architecture: Architecture,
    image_sizes: Sequence[ImageSize],
    n_answer_tokens: int,
) -> Iterator[_Finding]:
    """What the engine returned for each item."""
    n_layers, n_heads = architecture.n_layers, architecture.n_heads
    for capture, size in zip(captures, image_sizes, strict=True):
        n_image = architecture.n_image_tokens(size)
        expected = {
            "token_logprobs": (n_answer_tokens,),
            "attention": (n_layers, n_image),
            "head_rows": (n_layers, n_heads, n_image),
            "residual_update": (n_layers,),
            "lens_decision_margin": (n_layers,),
            "lens_truth_margin": (n_layers,),
            "attention_contribution": (n_layers,),
            "mlp_contribution": (n_layers,),
            "head_contribution": (n_layers, n_heads),
        }
        for field, shape in expected.items():
            found = np.shape(getattr(capture, field))
            yield _Finding(f"{field} of {capture.item_id}", found, shape)
        for position in POSITIONS:
            hidden = (capture.hidden or {}).get(position, np.empty(0)).shape
            shape = (n_layers + 1, architecture.d_model)
            yield _Finding(f"hidden at {position} of {capture.item_id}", hidden, shape)


def _inputs(image_sizes: Sequence[ImageSize]) -> list[VlmInput]:
    """Items of one image each, with questions of different length."""
    return [
        VlmInput(
            item_id=f"{width}×{height}",
            image=Image.new("RGB", (width, height)),
            question=_QUESTION.format("very " * index + "large dog"),
            truth_token_ids=(7, 8),
            image_key=f"{width}×{height}",
        )
        for index, (width, height) in enumerate(image_sizes)
    ]


def _image_processor(published: dict[str, Any]) -> Any:
    fields = copy.deepcopy(published)
    # The PIL backend is named because pixels differ slightly between backends.
    processor_class = getattr(transformers, fields.pop("image_processor_type") + "Pil")
    return processor_class(**fields)


class _StandInTokenizer:
    """One id a word or mark: which ids they are decides no shape, the image's own excepted."""

    chat_template = "im_start"
    bos_token = "<bos>"
    _PLACEHOLDERS = re.compile(r"<image>|<\|image_pad\|>")
    _WORDS = re.compile(r"<[^<>\s]+>|\w+|[^\w\s]|\n")

    def __init__(self, image_token_id: int) -> None:
        self._image_token_id = image_token_id

    def __call__(self, texts: Sequence[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [self._ids(text) for text in texts]}

    def _ids(self, text: str) -> list[int]:
        words = self._WORDS.findall(text)
        is_image = [self._PLACEHOLDERS.fullmatch(word) is not None for word in words]
        return [
            self._image_token_id if image else 2 + len(word)
            for word, image in zip(words, is_image, strict=True)
        ]

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], **options: Any) -> str:
        """Frame one user turn as Qwen2-VL's own template does."""
        parts = messages[0]["content"]
        image = "<|vision_start|><|image_pad|><|vision_end|>"
        said = "".join(part.get("text", image) for part in parts)
        return (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
        )

    def batch_decode(self, rows: Sequence[Sequence[int]], **options: Any) -> list[str]:
        """Return ids as text."""
        return [" ".join(str(token) for token in row) for row in rows]

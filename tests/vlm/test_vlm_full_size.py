"""The full-size configurations on the meta device, and what is planned against what is run."""

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from published_models import build_model, image_processor
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vrp.planning.compute import prefill_flops
from vrp.planning.memory import predict_memory
from vrp.planning.published_dimensions import (
    PublishedCheckpoint,
    measure_published,
    published_checkpoint,
)
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import POSITIONS, CaptureSpec, ItemCapture, run_batch
from vrp.vlm.families import get_family
from vrp.vlm.families.base import Family, FamilyOptions
from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, prepare
from vrp.vlm.shape_only import ShapeOnly

SIZES = ((640, 480), (480, 640), (333, 500), (24, 30))
# name: layers, width, heads, key heads, head width, vocabulary, image token, grids of SIZES
KNOWN: dict[str, tuple[Any, ...]] = {
    "llava-1.5-7b": (32, 4096, 32, 32, 128, 32064, 32000, [(24, 24)] * 4),
    "llava-1.5-13b": (40, 5120, 40, 40, 128, 32064, 32000, [(24, 24)] * 4),
    "paligemma-3b-mix-224": (18, 2048, 8, 1, 256, 257216, 257152, [(16, 16)] * 4),
    "qwen2-vl-7b-instruct": (
        28, 3584, 28, 4, 128, 152064, 151655, [(17, 23), (23, 17), (18, 12), (3, 2)],
    ),
}  # fmt: skip


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


@pytest.mark.parametrize("name", KNOWN)
def test_everything_extraction_touches_is_there_at_full_size(name: str) -> None:
    n_layers, d_model, n_heads, n_kv_heads, d_head, vocabulary, image_token, grids = KNOWN[name]
    vlm = build_model(published_checkpoint(name))
    assert type(vlm.model) is vlm.family.model_class
    assert (vlm.n_layers, vlm.d_model, vlm.n_heads) == (n_layers, d_model, n_heads)
    assert (vlm.lm_head.weight.shape, vlm.image_token_id) == ((vocabulary, d_model), image_token)
    assert [tuple(vlm.grid(size)) for size in SIZES] == grids
    assert [vlm.patch_boxes(size).shape for size in SIZES] == [(h * w, 4) for h, w in grids]
    for index, layer in enumerate(vlm.layers):
        output = vlm.family.attention_output(layer)
        assert layer.self_attn.layer_idx == index
        assert output.weight.shape == (d_model, n_heads * d_head)
        assert output.bias is None
        assert layer.self_attn.k_proj.weight.shape == (n_kv_heads * d_head, d_model)
        assert {vlm.family.attention_writer(layer), vlm.family.mlp_writer(layer)} <= set(
            layer.modules()
        )
    assert vlm.family.norm_gain(vlm.final_norm).shape == (d_model,)
    assert vlm.family.norm_epsilon(vlm.final_norm) == vlm.text_config.rms_norm_eps
    assert vlm.text_config._attn_implementation == ATTENTION_NAME
    assert vlm.model.config.vision_config._attn_implementation != ATTENTION_NAME


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_batch_of_all_sizes_is_captured_at_full_size(name: str) -> None:
    n_layers, d_model, n_heads, *_, grids = KNOWN[name]
    vlm = build_model(published_checkpoint(name))
    items = [made_items(1, size)[0]._replace(image_key=str(size)) for size in SIZES]
    captures, _ = trace_batch(vlm, items, CaptureSpec.full(hidden=POSITIONS), max_new_tokens=3)
    for capture, (height, width) in zip(captures, grids, strict=True):
        n_image = height * width
        shapes = {
            "token_logprobs": (3,),
            "attention": (n_layers, n_image),
            "head_rows": (n_layers, n_heads, n_image),
            "residual_update": (n_layers,),
            "lens_decision_margin": (n_layers,),
            "lens_truth_margin": (n_layers,),
            "attention_contribution": (n_layers,),
            "mlp_contribution": (n_layers,),
            "head_contribution": (n_layers, n_heads),
        }
        assert {field: np.shape(getattr(capture, field)) for field in shapes} == shapes
        assert capture.hidden is not None
        for position in POSITIONS:
            assert capture.hidden[position].shape == (n_layers + 1, d_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("full", [True, False])
def test_predicted_memory_is_what_full_size_tensors_take(name: str, full: bool) -> None:
    published = published_checkpoint(name)
    vlm = build_model(published)
    items = made_items(6, (640, 480))
    capture = CaptureSpec.full() if full else CaptureSpec()
    captures, traced = trace_batch(vlm, items, capture, max_new_tokens=3)
    predicted = predict_memory(
        published.dimensions,
        n_tokens=max(capture.n_prompt_tokens for capture in captures),
        batch_size=6,
        capture=capture,
        n_image_tokens=captures[0].grid_h * captures[0].grid_w,
    )
    assert 0.9 < predicted.activations / traced.peak < 1.1
    assert 0.9 < predicted.phases["encode"] / traced.encode < 1.1


def made_items(n_items: int, size: tuple[int, int]) -> list[VlmInput]:
    """Items of one size, each with an image of its own and a longer question than the last."""
    return [
        VlmInput(f"item-{i}", Image.new("RGB", size), "why " * (10 + i), "", (7, 8), f"image-{i}")
        for i in range(n_items)
    ]


@pytest.mark.slow
def test_a_model_without_the_attention_tap_is_caught() -> None:
    vlm = build_model(published_checkpoint("paligemma-3b-mix-224"))
    vlm.model.set_attn_implementation({"text_config": "sdpa"})
    with pytest.raises(RuntimeError, match="does not use the attention tap"):
        trace_batch(vlm, made_items(1, (64, 64)), CaptureSpec(attention=True), max_new_tokens=1)


# Shapes in place of values


def test_integers_stay_real_and_floats_become_shapes() -> None:
    with ShapeOnly(), torch.inference_mode():
        ids = torch.tensor([[3, 1, 2]], device="meta")
        assert ids.tolist() == [[3, 1, 2]]
        assert torch.arange(4, device="meta").tolist() == [0, 1, 2, 3]
        table = torch.empty(5, 8, device="meta")
        embedded = torch.nn.functional.embedding(ids, table)
        assert embedded.is_meta
        assert embedded.shape == (1, 3, 8)
        assert (embedded * (ids > 1)[..., None]).is_meta
        assert embedded.cpu().tolist() == [[[1.0] * 8] * 3]


def test_live_bytes_are_counted_once_and_freed() -> None:
    weight = torch.empty(100, 100, device="meta")
    with ShapeOnly() as shapes, torch.inference_mode():
        first = torch.empty(10, 100, device="meta") @ weight.T  # 4,000 bytes in, 4,000 bytes out
        assert shapes.peak_bytes == 8_000
        view = first[:5]
        assert shapes.live_bytes == 4_000
        second = first + 1
        assert shapes.live_bytes == 8_000
        del first, view
        assert shapes.live_bytes == 4_000
        shapes.reset_peak()
        assert shapes.peak_bytes == second.numel() * 4


def test_attention_that_does_not_fit_stops() -> None:
    def attend(n_heads: int, n_kv_heads: int, mask: tuple[int, ...], **options: Any) -> Any:
        query = torch.empty(2, n_heads, 7, 16, device="meta")
        key = torch.empty(2, n_kv_heads, 9, 16, device="meta")
        bias = torch.empty(mask, device="meta")
        with ShapeOnly(), torch.inference_mode():
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, key, attn_mask=bias, **options
            )

    assert attend(8, 8, (2, 1, 7, 9)).shape == (2, 8, 7, 16)
    assert attend(8, 2, (2, 1, 7, 9), enable_gqa=True).shape == (2, 8, 7, 16)
    with pytest.raises(RuntimeError, match="do not go together"):
        attend(8, 2, (2, 1, 7, 9))
    with pytest.raises(RuntimeError):
        attend(8, 8, (2, 1, 7, 8))


# What is planned against what runs


def test_dynamic_grids_are_the_image_processors_own() -> None:
    qwen = published_checkpoint("qwen2-vl-7b-instruct").dimensions
    sizes = np.random.default_rng(0).integers(2, 5_000, (2_000, 2)).tolist()
    for low, high in ((3_136, 12_845_056), (200_704, 1_003_520)):
        bounded = qwen.with_pixel_bounds(min_pixels=low, max_pixels=high)
        for width, height in sizes:
            if max(width, height) > 200 * min(width, height):
                continue
            resized = smart_resize(height, width, 28, min_pixels=low, max_pixels=high)
            assert bounded.images.grid((width, height)) == (resized[0] // 28, resized[1] // 28)


def middling(family: str) -> PublishedCheckpoint:
    """A configuration large enough that what is counted outweighs what is not."""
    text = {
        "vocab_size": 3_000, "hidden_size": 256, "intermediate_size": 688,
        "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 8,
        "max_position_embeddings": 1_024,
    }  # fmt: skip
    square = {
        "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 96, "patch_size": 8,
    }  # fmt: skip
    published = published_checkpoint(
        {
            "llava": "llava-1.5-7b",
            "paligemma": "paligemma-3b-mix-224",
            "qwen2_vl": "qwen2-vl-7b-instruct",
        }[family]
    )
    config, processor = copy.deepcopy(published.config), copy.deepcopy(published.image_processor)
    if family == "llava":
        config |= {"image_token_index": 1, "image_seq_length": 144}
        config["text_config"] |= text
        config["vision_config"] |= square
        processor |= {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}}
    elif family == "paligemma":
        config |= {"image_token_index": 1, "hidden_size": 256, "projection_dim": 256}
        config["text_config"] |= {**text, "num_key_value_heads": 1, "head_dim": 32}
        config["vision_config"] |= square
        processor |= {"size": {"height": 96, "width": 96}, "image_seq_length": 144}
    else:
        ids = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3}
        config |= {**text, **ids, "vision_end_token_id": 4, "num_key_value_heads": 2}
        config["rope_scaling"] = {"type": "mrope", "mrope_section": [4, 6, 6]}
        config["vision_config"] |= {
            "depth": 3, "embed_dim": 96, "num_heads": 4, "hidden_size": 256, "patch_size": 4,
        }  # fmt: skip
        processor |= {"patch_size": 4, "min_pixels": 1_024, "max_pixels": 65_536}
    parts = {"source": published.checkpoint, "config": config, "preprocessor_config": processor}
    dimensions = measure_published({**parts, "family": family, "n_frame_tokens": 0})
    return published._replace(config=config, image_processor=processor, dimensions=dimensions)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_vl"])
def test_operations_are_those_that_are_run(family: str) -> None:
    published = middling(family)
    vlm = build_model(published, dtype="float32", device="cpu")
    vlm.model.set_attn_implementation("eager")  # its matrix products are all in sight
    items = made_items(1, (96, 96))
    with FlopCounterMode(display=False) as counted_image, torch.no_grad():
        prepared = prepare.__wrapped__(vlm, items)
    with FlopCounterMode(display=False) as counted_prefill, torch.no_grad():
        Decoder(vlm, prepared).prefill()
    n_tokens = prepared.prompt_lengths[0]
    assert counted_prefill.get_total_flops() == prefill_flops(published.dimensions, n_tokens)
    assert counted_image.get_total_flops() == published.dimensions.image_flops.at(
        prepared.grids[0].n_tokens
    )


def allocated_peak(run: Callable[[], object]) -> int:
    """Most bytes that torch's allocator had handed out at a time, from the profiler's record."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return int(np.cumsum([size for _, size in sorted(changes)]).max())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_vl"])
@pytest.mark.parametrize("full", [True, False])
def test_predicted_memory_is_what_is_allocated(family: str, full: bool) -> None:
    published = middling(family)
    torch.manual_seed(0)
    vlm = build_model(published, dtype="float32", device="cpu")
    items = made_items(6, (96, 96))
    capture = CaptureSpec.full() if full else CaptureSpec()
    run_batch(vlm, items[:1], capture, max_new_tokens=1)  # what is made once is made
    captures = []
    measured = allocated_peak(
        lambda: captures.extend(run_batch(vlm, items, capture, max_new_tokens=3))
    )
    predicted = predict_memory(
        published.dimensions,
        n_tokens=max(found.n_prompt_tokens for found in captures),
        batch_size=len(items),
        capture=capture,
        dtype="float32",
        n_image_tokens=captures[0].grid_h * captures[0].grid_w,
    ).activations
    assert 1 / 1.25 < predicted / measured < 1.25
    # The trace of shapes, which checks the formula at full size, agrees with the allocator too.
    shapes = build_model(published, dtype="float32")
    traced = trace_batch(shapes, items, capture, max_new_tokens=3)[1].peak
    assert 1 / 1.3 < traced / measured < 1.3


# Full-size processors: image tokens where they should be, and boxes that tile what is processed

PORTRAIT, LANDSCAPE, TINY, SQUARE = (480, 640), (640, 480), (24, 30), (336, 336)
BOUNDS = (200_704, 1_003_520)


def full_size_family(
    name: str, policy: str | None = None, bounds: tuple[int, int] | tuple[None, None] = (None, None)
) -> Family:
    """A family bound to a published configuration and its own image processor, without a model."""
    published = published_checkpoint(name)
    family_class = get_family(published.family)
    config = family_class.model_class.config_class.from_dict(copy.deepcopy(published.config))
    tokenizer = SimpleNamespace(chat_template="there", bos_token="<bos>")
    options = FamilyOptions(image_policy=policy, min_pixels=bounds[0], max_pixels=bounds[1])
    return family_class(config, tokenizer, image_processor(published.image_processor), options)


def processed_cells(family: Family, image: Image.Image) -> np.ndarray:
    """(rows, columns, numbers) of the processed image, cut by image token."""
    made = family.process_images([image])
    pixels = np.asarray(made["pixel_values"], dtype=np.float64)
    if family.name == "qwen2_vl":  # patches, four a token, in the tokens' order
        _, height, width = made["image_grid_thw"][0].tolist()
        return pixels.reshape(height // 2, width // 2, -1)
    _, channels, height, width = pixels.shape
    cut = pixels.reshape(channels, height // 14, 14, width // 14, 14)
    return cut.transpose(1, 3, 0, 2, 4).reshape(height // 14, width // 14, -1)


# checkpoint, policy, pixel bounds, size: rows and columns of image tokens, worked by hand.
# Qwen2-VL's tokens are 28×28: 480/28 = 17.1 and 640/28 = 22.9 are rounded; 24×30 is under 56² and
# scaled up by √(3136/720) = 2.09 to 50.1×62.6, rounded up; bounded, it is scaled by √(200704/720)
# = 16.7 to 400.7×500.9; 640×480 is within the bounds.
TOKENS = [
    *[("llava-1.5-7b", policy, (None, None), size, (24, 24))
      for policy in ("pad", "crop") for size in (PORTRAIT, LANDSCAPE, TINY, SQUARE)],
    *[("llava-1.5-13b", policy, (None, None), LANDSCAPE, (24, 24)) for policy in ("pad", "crop")],
    *[("paligemma-3b-mix-224", "resize", (None, None), size, (16, 16))
      for size in (PORTRAIT, LANDSCAPE, TINY, SQUARE)],
    ("qwen2-vl-7b-instruct", "native", (None, None), PORTRAIT, (23, 17)),
    ("qwen2-vl-7b-instruct", "native", (None, None), LANDSCAPE, (17, 23)),
    ("qwen2-vl-7b-instruct", "native", (None, None), TINY, (3, 2)),
    ("qwen2-vl-7b-instruct", "native", BOUNDS, PORTRAIT, (23, 17)),
    ("qwen2-vl-7b-instruct", "native", BOUNDS, TINY, (18, 15)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "policy", "bounds", "size", "expected"), TOKENS)
def test_full_size_boxes_tile_the_processed_image(
    name: str, policy: str, bounds: Any, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    family = full_size_family(name, policy, bounds)
    rows, columns = expected
    assert tuple(family.grid(size)) == expected
    assert processed_cells(family, Image.new("RGB", size, (90, 120, 30))).shape[:2] == expected
    cells = family.patch_boxes(size).reshape(rows, columns, 4)
    # No gap and no overlap: every box ends where the next begins, in straight rows and columns.
    np.testing.assert_array_equal(cells[:, :-1, 2], cells[:, 1:, 0])
    np.testing.assert_array_equal(cells[:-1, :, 3], cells[1:, :, 1])
    assert (np.ptp(cells[:, :, 0], axis=0) == 0).all()
    assert (np.ptp(cells[:, :, 1], axis=1) == 0).all()
    # All of one size, and together exactly the part of the original that is processed.
    widths, heights = cells[..., 2] - cells[..., 0], cells[..., 3] - cells[..., 1]
    corner, end = cells[0, 0, :2], cells[-1, -1, 2:]
    np.testing.assert_allclose(widths, (end - corner)[0] / columns, rtol=1e-9)
    np.testing.assert_allclose(heights, (end - corner)[1] / rows, rtol=1e-9)
    width, height = size
    if policy == "pad":  # a square of the longer side around the image
        left, top = (max(size) - width) // 2, (max(size) - height) // 2
        expected_frame = [-left, -top, max(size) - left, max(size) - top]
    elif policy == "crop":  # the middle square, to the pixel of the resized image
        side = min(size)
        expected_frame = [
            (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2,
        ]  # fmt: skip
        np.testing.assert_allclose([*corner, *end], expected_frame, atol=2 * side / 336)
        return
    else:
        expected_frame = [0, 0, width, height]
    np.testing.assert_allclose([*corner, *end], expected_frame, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy", "bounds", "size"),
    [case[:4] for case in TOKENS if case[3] in (PORTRAIT, LANDSCAPE)],
)
def test_full_size_boxes_are_where_the_tokens_look(
    name: str, policy: str, bounds: Any, size: tuple[int, int]
) -> None:
    family = full_size_family(name, policy, bounds)
    grid, boxes = family.grid(size), family.patch_boxes(size)
    before = processed_cells(family, Image.new("RGB", size, (0, 0, 0)))
    tokens = [0, grid.n_tokens - 1, grid.n_tokens // 2, grid.width - 1, grid.n_tokens // 3]
    for token in [*tokens, grid.width * (grid.height // 2) + grid.width // 2]:
        x0, y0, x1, y1 = np.round(boxes[token]).astype(int).tolist()
        painted = Image.new("RGB", size, (0, 0, 0))
        painted.paste((255, 255, 255), (x0, y0, x1, y1))
        changed = np.abs(processed_cells(family, painted) - before).sum(-1).reshape(-1)
        if x1 <= 0 or y1 <= 0 or x0 >= size[0] or y0 >= size[1]:
            assert policy == "pad"
            assert not changed.any()
            continue
        # Resizing blurs a little over the border; a box off by half a token would give half.
        assert changed[token] > 0.8 * changed.sum()

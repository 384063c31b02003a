"""Memory of a batch, against bytes counted by hand."""

import subprocess
import sys

import pytest

from vrp.errors import InputError
from vrp.planning.memory import kv_cache_bytes_per_token, predict_memory
from vrp.planning.published_dimensions import published_checkpoint
from vrp.vlm.capture_spec import CaptureSpec
from vrp.vlm.dimensions import Dimensions


def shipped(name: str) -> Dimensions:
    return published_checkpoint(name).dimensions


@pytest.fixture(scope="module")
def llava() -> Dimensions:
    return shipped("llava-1.5-7b")


def test_cache_by_hand(llava: Dimensions) -> None:
    # Keys and values, 32 layers, 4096 numbers, two bytes: half a mebibyte a token.
    assert kv_cache_bytes_per_token(llava) == 2 * 32 * 4_096 * 2 == 524_288
    assert kv_cache_bytes_per_token(llava, dtype="float32") == 1_048_576
    # One head of 256 for all queries; four of 128.
    gemma, qwen = shipped("paligemma-3b-mix-224"), shipped("qwen2-vl-7b-instruct")
    assert kv_cache_bytes_per_token(gemma) == 2 * 18 * 256 * 2 == 18_432
    assert kv_cache_bytes_per_token(qwen) == 2 * 28 * 512 * 2 == 57_344


def test_parts_by_hand(llava: Dimensions) -> None:
    memory = predict_memory(
        llava, n_tokens=640, batch_size=16, capture=CaptureSpec.full(), dtype="bfloat16"
    )
    assert memory.weights == 2 * 7_063_427_072
    assert memory.cache == 16 * 640 * 524_288
    assert memory.image_tokens == 16 * 576 * 4_096 * 2
    # Inside the last MLP: three tensors 11008 wide, the residual, its norm, the layer's input, the
    # embeddings, sines and cosines of rotation, all of the cache; and the mask, a byte a key.
    inside = 2 * (3 * 11_008 + 4 * 4_096 + 2 * 128)
    assert memory.prompt == 16 * 640 * (inside + 524_288 + 640)
    # 32 layers, 32 heads, 576 image tokens, float32: 2.36 MB an item.
    assert memory.attention_rows == 16 * 32 * 32 * 576 * 4
    # 2²⁵ logits hold 65 layers of 16 items' 32,064: all 32 fit, with a masked copy.
    assert memory.lens == 32 * 16 * 32_064 * 8
    assert memory.contributions == 4_096 * 4_096 * 4
    # The residuals of 33 places, once as read and once stacked; five components of 32 layers.
    assert memory.hidden == 16 * 4_096 * 4 * (2 * 33 + 5 * 32)


def test_the_peak_is_the_largest_phase(llava: Dimensions) -> None:
    memory = predict_memory(llava, n_tokens=640, batch_size=16, capture=CaptureSpec.full())
    assert memory.activations == max(memory.phases.values())
    assert memory.total == memory.weights + memory.activations
    # 14.1 GB of weights, 5.4 GB of cache and under 2 GB beside them: it fits 24 GB.
    assert 20e9 < memory.total < 22e9


def test_what_is_not_captured_costs_nothing(llava: Dimensions) -> None:
    bare = predict_memory(llava, n_tokens=640, batch_size=4)
    assert bare.attention_rows == bare.hidden == bare.lens == bare.contributions == 0
    full = predict_memory(llava, n_tokens=640, batch_size=4, capture=CaptureSpec.full())
    assert bare.activations < full.activations < 1.15 * bare.activations


def test_the_batch_scales_all_but_the_weights(llava: Dimensions) -> None:
    one = predict_memory(llava, n_tokens=700, batch_size=1)
    eight = predict_memory(llava, n_tokens=700, batch_size=8)
    assert eight.weights == one.weights
    assert eight.activations == 8 * one.activations


def test_a_full_map_would_cost_far_more_than_the_rows(llava: Dimensions) -> None:
    rows = predict_memory(
        llava, n_tokens=640, batch_size=1, capture=CaptureSpec(attention=True)
    ).attention_rows
    full_maps = 32 * 32 * 640 * 640 * 2
    assert full_maps > 300 * rows


def test_dynamic_images_are_bounded_by_the_prompt_unless_given() -> None:
    qwen = shipped("qwen2-vl-7b-instruct")
    bound = predict_memory(qwen, n_tokens=500, batch_size=2)
    known = predict_memory(qwen, n_tokens=500, batch_size=2, n_image_tokens=391)
    assert bound.image_tokens == 2 * 500 * 3_584 * 2
    assert known.image_tokens == 2 * 391 * 3_584 * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is unknown"),
        ({"batch_size": 0}, "cannot be"),
        ({"n_tokens": 100}, "576 of them image tokens"),
    ],
)
def test_bad_requests_are_refused(
    llava: Dimensions, changes: dict[str, object], message: str
) -> None:
    arguments = {"n_tokens": 640, "batch_size": 1, **changes}
    with pytest.raises(InputError, match=message):
        predict_memory(llava, **arguments)  # type: ignore[arg-type]


def test_planning_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, vrp.planning.memory, vrp.planning.compute;"
        "import vrp.planning.published_dimensions as p;"
        "p.published_checkpoint('llava-1.5-7b');"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Measured dimensions against what the whole model runs, and against published parameter counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache

from vrp.errors import InputError
from vrp.planning.compute import decode_flops, prefill_flops
from vrp.planning.memory import kv_cache_bytes_per_token, predict_memory
from vrp.planning.published_dimensions import measure_published, shipped_files
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.dimensions import Dimensions
from vrp.vlm.loading import load_vlm
from vrp.vlm.measuring import measure_folder
from vrp.vlm.shape_only import ShapeOnly

CONFIGURATIONS = Path(__file__).parents[1] / "support" / "configurations"
# Parameters that are published with the weights; pixels, grid of patches and image tokens of one
# image, of a size that is not measured where sizes are dynamic.
PUBLISHED: dict[str, tuple[int, tuple[int, ...], tuple[int, int] | None, int]] = {
    "qwen2.5-vl-7b": (8_292_166_656, (34 * 46, 3 * 2 * 14 * 14), (34, 46), 17 * 23),
    "gemma-3-4b": (4_300_079_472, (1, 3, 896, 896), None, 256),
    "internvl3-8b": (7_944_373_760, (1, 3, 448, 448), None, 256),
}
N_TEXT = 90


class Measured(NamedTuple):
    """A model on the meta device, and its dimensions as measured from its folder."""

    name: str
    model: Any
    dimensions: Dimensions


@pytest.fixture(scope="module", params=PUBLISHED)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "config.json").write_text((CONFIGURATIONS / f"{request.param}.json").read_text())
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(folder), dtype=torch.bfloat16
        )
    model.eval().set_attn_implementation({"text_config": ATTENTION_NAME})
    return Measured(request.param, model, measure_folder(folder, "auto"))


class Run(NamedTuple):
    """What the whole model's own forward took: one item's prefill, then one decode step."""

    prefill_flops: int
    decode_flops: int
    peak_bytes: int
    cache_bytes: int


@pytest.fixture(scope="module")
def run(measured: Measured) -> Run:
    _, shape, grid, n_image = PUBLISHED[measured.name]
    model, image_token = measured.model, measured.model.config.image_token_id
    ids = torch.full((1, N_TEXT + n_image), 5)
    ids[0, 10 : 10 + n_image] = image_token
    n_tokens, axes = len(ids[0]), () if grid is None else (3,)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if grid is not None:
        inputs["image_grid_thw"] = torch.tensor([[1, *grid]])
        inputs["mm_token_type_ids"] = (ids == image_token).int()
    next_inputs = {
        "input_ids": ids[:, :1],
        "attention_mask": torch.ones(1, n_tokens + 1, dtype=torch.long),
        "position_ids": torch.full((*axes, 1, 1), n_tokens),
    }

    def forward(cache: Any, **inputs: torch.Tensor) -> None:
        model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def pixels() -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    # torch counts attention in its parts, which make T×T maps: memory needs a run of its own.
    cache: Any = DynamicCache()
    with torch.inference_mode(), ShapeOnly(), FlopCounterMode(display=False) as prefill:
        forward(cache, **inputs, pixel_values=pixels())
    with torch.inference_mode(), ShapeOnly(), FlopCounterMode(display=False) as step:
        forward(cache, **next_inputs)
    with torch.inference_mode(), ShapeOnly() as shapes:
        forward(DynamicCache(), **inputs, pixel_values=pixels())
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return Run(
        prefill.get_total_flops(),
        step.get_total_flops(),
        shapes.peak_bytes,
        sum(tensor.nbytes for tensor in tensors),
    )


@pytest.mark.slow
def test_parameters_are_exact(measured: Measured) -> None:
    assert measured.dimensions.n_parameters == PUBLISHED[measured.name][0]
    tensors = {
        id(tensor): tensor.numel()
        for tensor in measured.model.state_dict(keep_vars=True).values()
        if isinstance(tensor, torch.nn.Parameter)
    }
    assert measured.dimensions.n_parameters == sum(tensors.values())
    assert measured.dimensions.checkpoint_bytes == 2 * measured.dimensions.n_parameters


@pytest.mark.slow
def test_operations_are_those_of_the_whole_model(measured: Measured, run: Run) -> None:
    dimensions, n_image = measured.dimensions, PUBLISHED[measured.name][3]
    n_tokens = N_TEXT + n_image
    predicted = dimensions.image_flops.at(n_image) + prefill_flops(dimensions, n_tokens)
    assert predicted == pytest.approx(run.prefill_flops, rel=0.02)
    assert decode_flops(dimensions, n_tokens + 1) == pytest.approx(run.decode_flops, rel=0.001)


@pytest.mark.slow
def test_memory_is_that_of_the_whole_model(measured: Measured, run: Run) -> None:
    dimensions, n_image = measured.dimensions, PUBLISHED[measured.name][3]
    n_tokens = N_TEXT + n_image
    memory = predict_memory(dimensions, n_tokens=n_tokens, batch_size=1, n_image_tokens=n_image)
    assert memory.activations == pytest.approx(run.peak_bytes, rel=0.1)
    assert kv_cache_bytes_per_token(dimensions) * (n_tokens + 1) == run.cache_bytes
    assert memory.weights == sum(tensor.nbytes for tensor in measured.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_files())
def test_what_ships_is_what_is_measured(name: str) -> None:
    fields = shipped_files()[name]
    assert measure_published(fields) == Dimensions.from_json(fields["dimensions"])


@pytest.mark.slow
def test_a_checkpoints_own_tokenizer_and_image_processor_are_used(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint("qwen2_vl"), folder)
    path = folder / "preprocessor_config.json"
    size = {"shortest_edge": 640, "longest_edge": 6_400}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": size}))
    found = measure_folder(folder, "qwen2_vl")
    assert (found.images.min_pixels, found.images.max_pixels) == (640, 6_400)
    vlm = load_vlm(folder, family="qwen2_vl", device="cpu")
    for image_size in ((48, 32), (200, 90), (8, 12)):
        assert found.images.grid(image_size) == tuple(vlm.grid(image_size))
    assert found.n_frame_tokens == len(vlm.prompt_token_ids("")) - 1
    assert found.n_parameters == sum(tensor.numel() for tensor in vlm.model.parameters())


@pytest.mark.parametrize("model_type", ["llava_next", "llava_onevision"])
def test_images_cut_into_tiles_are_named(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match=f"{model_type} needs image_sizes beside") as caught:
        measure_folder(tmp_path, "auto")
    assert "family of its own" in str(caught.value)


def test_what_cannot_be_measured_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        measure_folder(tmp_path, "auto")
    for content in (
        "{",
        "{}",
        '{"model_type": "llama"}',
        '{"model_type": "qwen2_vl", "vocab_size": "many"}',
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match="cannot be measured") as caught:
            measure_folder(tmp_path, "auto")
        assert "\n" not in str(caught.value)

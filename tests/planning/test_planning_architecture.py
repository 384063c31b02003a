"""Dimensions and parameter counts, against counts worked by hand and totals that are published."""

import copy
import json
from pathlib import Path

import pytest

from vrp.errors import InputError
from vrp.planning.architecture import Architecture, read_architecture, read_checkpoint_folder
from vrp.planning.published import published_checkpoint


def architecture_of(name: str) -> Architecture:
    published = published_checkpoint(name)
    return read_architecture(published.config, published.image_processor)


# Counted by others on the published weights; for Qwen2-VL, half the 16,582,751,232 bytes of its
# bfloat16 index.
@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("llava-1.5-7b", 7_063_427_072),
        ("paligemma-3b-mix-224", 2_923_466_480),
        ("qwen2-vl-7b-instruct", 8_291_375_616),
    ],
)
def test_totals_are_the_published_ones(name: str, total: int) -> None:
    assert architecture_of(name).parameters.total == total


def test_llava_parts_by_hand() -> None:
    counts = architecture_of("llava-1.5-7b").parameters
    # Four 4096×4096 projections, three 4096×11008 ones, two norms; 32 layers; the final norm.
    layer = 67_108_864 + 135_266_304 + 8_192
    assert counts.text == 32 * layer + 4_096 == 6_476_271_616
    assert counts.embeddings == counts.unembedding == 32_064 * 4_096 == 131_334_144
    # 1024→4096 and 4096→4096, each with a bias.
    assert counts.projector == (1_024 + 1) * 4_096 + (4_096 + 1) * 4_096 == 20_979_712
    # CLIP-L/14 at 336 pixels: a layer has 4·(1024²+1024) + 1024·4096+4096 + 4096·1024+1024 and two
    # norms of 2·1024; 3·14·14·1024 for patches, 577 positions, a class token, two norms.
    clip_layer = 4_198_400 + 4_198_400 + 4_195_328 + 4_096
    assert counts.vision == 24 * clip_layer + 602_112 + 590_848 + 1_024 + 4_096 == 303_507_456


def test_a_tied_unembedding_counts_once() -> None:
    counts = architecture_of("paligemma-3b-mix-224").parameters
    assert counts.unembedding == 0
    assert counts.embeddings == 257_216 * 2_048


def test_dimensions_of_grouped_heads() -> None:
    gemma, qwen = architecture_of("paligemma-3b-mix-224"), architecture_of("qwen2-vl-7b-instruct")
    assert (gemma.n_heads, gemma.n_kv_heads, gemma.d_head) == (8, 1, 256)
    assert (qwen.n_heads, qwen.n_kv_heads, qwen.d_head) == (28, 4, 128)
    assert qwen.qkv_bias
    assert not gemma.qkv_bias


def test_fixed_grids() -> None:
    assert architecture_of("llava-1.5-13b").grid((100, 900)) == (24, 24)
    assert architecture_of("paligemma-3b-mix-224").grid((100, 900)) == (16, 16)


@pytest.mark.parametrize(
    ("size", "bounds", "grid"),
    [
        # 640/28 = 22.86 → 23 columns; 480/28 = 17.14 → 17 rows.
        ((640, 480), (3_136, 12_845_056), (17, 23)),
        ((480, 640), (3_136, 12_845_056), (23, 17)),
        # 1×1 tokens are 784 pixels, under 3136: scale √(3136/600) = 2.286, so 54.9 by 57.2 pixels
        # rounded up to whole tokens.
        ((20, 30), (3_136, 12_845_056), (3, 2)),
        # 23·17 tokens are 306,544 pixels, over 200,704: scale √(307200/200704) = 1.237; 640/1.237
        # = 517.3 and 480/1.237 = 388 are 18.5 and 13.9 tokens, rounded down.
        ((640, 480), (3_136, 200_704), (13, 18)),
    ],
)
def test_dynamic_grids(
    size: tuple[int, int], bounds: tuple[int, int], grid: tuple[int, int]
) -> None:
    qwen = architecture_of("qwen2-vl-7b-instruct")
    bounded = qwen.with_pixel_bounds(min_pixels=bounds[0], max_pixels=bounds[1])
    assert bounded.grid(size) == grid
    assert bounded.n_image_tokens(size) == grid[0] * grid[1]


def test_what_cannot_be_is_refused() -> None:
    qwen, llava = architecture_of("qwen2-vl-7b-instruct"), architecture_of("llava-1.5-7b")
    with pytest.raises(InputError, match="factor of 200"):
        qwen.grid((2_010, 10))
    with pytest.raises(InputError, match="one size"):
        llava.with_pixel_bounds(max_pixels=10_000)
    assert llava.with_pixel_bounds() is llava


def test_fields_that_a_config_leaves_out_have_the_class_defaults() -> None:
    # The published text configuration of LLaVA-1.5-7B says no more than this.
    config = copy.deepcopy(published_checkpoint("llava-1.5-7b").config)
    config["text_config"] = {
        "model_type": "llama",
        "vocab_size": 32_064,
        "max_position_embeddings": 4_096,
    }
    assert read_architecture(config) == architecture_of("llava-1.5-7b")


def test_a_nested_qwen2_vl_config_reads_as_the_flat_one() -> None:
    published = published_checkpoint("qwen2-vl-7b-instruct")
    nested = copy.deepcopy(published.config)
    outer = {"model_type", "vision_config", "image_token_id"}
    text = {key: value for key, value in nested.items() if key not in outer}
    nested = {key: nested[key] for key in outer}
    nested["text_config"] = {**text, "model_type": "qwen2_vl_text"}
    processor = {"size": {"shortest_edge": 3_136, "longest_edge": 12_845_056}}
    assert read_architecture(nested, processor) == architecture_of("qwen2-vl-7b-instruct")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "blip"}, "'blip' model cannot be read"),
        ({"vision_config": None}, "no vision_config"),
        ({"text_config": {"model_type": "mistral"}}, "'mistral'"),
        ({"vision_feature_layer": [-2, -5]}, "several vision layers"),
        ({"text_config": {"model_type": "llama", "attention_bias": True}}, "attention_bias"),
    ],
)
def test_other_configurations_are_refused_in_one_line(
    change: dict[str, object], message: str
) -> None:
    config = {**published_checkpoint("llava-1.5-7b").config, **change}
    with pytest.raises(InputError, match=message) as caught:
        read_architecture(config)
    assert "\n" not in str(caught.value)


def test_checkpoints_are_found_by_name_and_model_id() -> None:
    assert published_checkpoint("google/paligemma-3b-pt-224").name == "paligemma-3b-mix-224"
    assert published_checkpoint("Qwen/Qwen2-VL-7B-Instruct").family == "qwen2_vl"
    with pytest.raises(InputError, match=r"did you mean 'llava-1\.5-7b'"):
        published_checkpoint("llava-1.5-7")


def test_a_checkpoint_folder_is_read_without_its_weights(tmp_path: Path) -> None:
    published = published_checkpoint("qwen2-vl-7b-instruct")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        read_checkpoint_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(published.config))
    bounded = {"image_processor": {"size": {"shortest_edge": 784, "longest_edge": 78_400}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(bounded))
    assert read_checkpoint_folder(tmp_path).image_rule.max_pixels == 78_400
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published.image_processor))
    assert read_checkpoint_folder(tmp_path) == architecture_of("qwen2-vl-7b-instruct")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_checkpoint_folder(tmp_path)

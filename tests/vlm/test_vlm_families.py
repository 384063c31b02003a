"""Prompts, grids and boxes of each family."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Gemma2Config, LlavaImageProcessorPil, PaliGemmaConfig

from vrp.errors import InputError
from vrp.vlm.families import get_family, register_family
from vrp.vlm.families.base import FamilyOptions
from vrp.vlm.families.llava import pad_to_square
from vrp.vlm.families.qwen2_vl import Qwen2VL
from vrp.vlm.family_names import REGISTERED, family_names
from vrp.vlm.loading import load_vlm

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: <image>\nIs it red?"
    "{suffix} ASSISTANT:"
)
CHATML = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|><|image_pad|><|vision_end|>Is it red?{suffix}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
SUFFIX = "\nAnswer the question using a single word or phrase."
PROMPTS = {
    ("llava", "short_answer"): VICUNA.format(suffix=SUFFIX),
    ("llava", "plain"): VICUNA.format(suffix=""),
    ("paligemma", "short_answer"): "<image><bos>Is it red?\n",
    ("paligemma", "plain"): "<image><bos>Is it red?\n",
    ("paligemma", "answer_en"): "<image><bos>answer en Is it red?\n",
    ("qwen2_vl", "short_answer"): CHATML.format(suffix=SUFFIX),
    ("qwen2_vl", "plain"): CHATML.format(suffix=""),
}


KNOWN = ("llava", "paligemma", "qwen2_vl")
"""The families that know their checkpoints."""


def _family(vlms, name, **options):
    """The family again, with other options, over a fresh image processor."""
    known = vlms[name].family
    processor = type(known.image_processor)(**known.image_processor.to_dict())
    return get_family(name)(known.config, known.tokenizer, processor, FamilyOptions(**options))


@pytest.mark.parametrize(("name", "variant"), PROMPTS)
def test_prompts(vlms, name, variant):
    family = _family(vlms, name, prompt=variant)
    assert family.render_prompt("Is it red?") == PROMPTS[name, variant]


def test_every_prompt_variant_is_pinned():
    assert set(PROMPTS) == {(name, p) for name in KNOWN for p in get_family(name).prompts}


def test_braces_in_a_question_are_plain_text(vlm):
    assert "What is {this} {0}?" in vlm.render_prompt("What is {this} {0}?")


def test_prompt_tokens_spell_the_prompt(vlm):
    ids = vlm.prompt_token_ids("Is it red?")
    assert ids.count(vlm.image_token_id) == 1
    assert vlm.render_prompt("Is it red?") in vlm.tokenizer.decode(ids)
    if vlm.family.name == "llava":
        assert ids[0] == vlm.tokenizer.bos_token_id


def test_names_are_known_without_importing_a_family():
    assert family_names() == ("auto", *KNOWN)
    script = "import sys, vrp.vlm.family_names as f; f.check_family('llava'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "vrp.vlm.families"} & set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_family_is_imported_by_its_name_and_no_other(name):
    script = (
        f"import sys; from vrp.vlm.families import get_family as f; assert f({name!r}).name == "
        f"{name!r}; print(*(m for m in sys.modules if m.startswith('vrp.vlm.families.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"vrp.vlm.families.base", f"vrp.vlm.families.{name}"}


def test_an_extension_adds_a_family(checkpoints):
    class Brief(get_family("llava")):
        name = "brief"
        prompts = {"short_answer": "{question} Be brief."}  # noqa: RUF012

    register_family(Brief)
    try:
        assert "brief" in family_names()
        vlm = load_vlm(checkpoints["llava"], family="brief", device="cpu")
        assert vlm.render_prompt("Is it red?").endswith("Is it red? Be brief. ASSISTANT:")
        with pytest.raises(InputError, match="'brief' exists already"):
            register_family(Brief)
    finally:
        REGISTERED.clear()
    Brief.name = "paligemma"
    with pytest.raises(InputError, match="'paligemma' exists already"):
        register_family(Brief)


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="'qwen2_vl'"):
        get_family("qwen2vl")


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("llava", {"prompt": "answer_en"}, "short_answer, plain"),
        ("paligemma", {"image_policy": "crop"}, "resize"),
        ("paligemma", {"max_pixels": 100}, "max_pixels"),
        ("qwen2_vl", {"min_pixels": 4000}, "4000"),
    ],
)
def test_options_that_a_family_lacks_are_refused(vlms, name, options, named):
    with pytest.raises(InputError, match=named):
        _family(vlms, name, **options)


# One patch painted at a time, at sizes that need no resizing: only its own token changes.
EXACT = [
    ("llava", "pad", (32, 16), 16),
    ("llava", "pad", (24, 32), 16),
    ("llava", "crop", (64, 32), 16),
    ("llava", "crop", (32, 48), 16),
    ("paligemma", "resize", (32, 32), 16),
    ("qwen2_vl", "native", (48, 24), 18),
    ("qwen2_vl", "native", (16, 32), 8),
]


@pytest.mark.parametrize(("name", "policy", "size", "n_tokens"), EXACT)
def test_boxes_are_where_the_tokens_look(vlms, draw_image, name, policy, size, n_tokens):
    family = _family(vlms, name, image_policy=policy)
    grid, boxes = family.grid(size), family.patch_boxes(size)
    assert grid.n_tokens == len(boxes) == n_tokens
    image = draw_image(1, size)
    before = _per_token(family, image, grid)
    outside = 0
    for token, box in enumerate(boxes.astype(int).tolist()):
        inner = (max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1]))
        changed = image.copy()
        if inner[0] < inner[2] and inner[1] < inner[3]:
            changed.paste((255, 0, 255), inner)
        else:
            outside += 1
        difference = np.abs(_per_token(family, changed, grid) - before).sum(1)
        expected = [] if changed.tobytes() == image.tobytes() else [token]
        assert difference.nonzero()[0].tolist() == expected
    # 32×16 is padded by a row of tokens above and one below.
    assert outside == (8 if (policy, size) == ("pad", (32, 16)) else 0)


def _per_token(family, image: Image.Image, grid) -> np.ndarray:
    """(S, pixels) of the processed image, cut by token."""
    pixels = family.process_images([image])["pixel_values"].numpy()
    if family.name == "qwen2_vl":  # four patches a token, already in the tokens' order
        return pixels.reshape(grid.n_tokens, -1)
    _, channels, height, _ = pixels.shape
    cut = pixels.reshape(channels, grid.height, height // grid.height, grid.width, -1)
    return cut.transpose(1, 3, 0, 2, 4).reshape(grid.n_tokens, -1)


@pytest.mark.parametrize("size", [(31, 77), (77, 31), (9, 8), (200, 120)])
@pytest.mark.parametrize("name", KNOWN)
def test_grids_and_boxes_tile_the_processed_image(vlms, name, size, draw_image):
    for policy in get_family(name).image_policies:
        family = _family(vlms, name, image_policy=policy)
        grid, boxes = family.grid(size), family.patch_boxes(size)
        made = family.process_images([draw_image(0, size)])
        if "image_grid_thw" in made:
            assert made["image_grid_thw"].tolist() == [[1, 2 * grid.height, 2 * grid.width]]
        cells = boxes.reshape(grid.height, grid.width, 4)
        np.testing.assert_allclose(cells[:, 1:, 0], cells[:, :-1, 2])
        np.testing.assert_allclose(cells[1:, :, 1], cells[:-1, :, 3])
        covered = cells[-1, -1, 2:] - cells[0, 0, :2]
        if policy == "pad":
            np.testing.assert_allclose(covered, max(size))
        elif policy == "crop":  # the shorter edge whole, the longer one its middle
            np.testing.assert_allclose(covered, min(size), rtol=0.15)
            middle = (cells[-1, -1, 2:] + cells[0, 0, :2]) / 2
            np.testing.assert_allclose(middle, np.array(size) / 2, atol=max(size) / 32)
        else:
            np.testing.assert_allclose(covered, size)


def test_crop_boxes_by_hand(vlms):
    # 64×16 is resized to 128×32; the crop takes x 48…80, which is 24…40 of the original.
    boxes = _family(vlms, "llava", image_policy="crop").patch_boxes((64, 16))
    np.testing.assert_allclose(boxes[0], [24, 0, 28, 4])
    np.testing.assert_allclose(boxes[-1], [36, 12, 40, 16])


def test_pad_to_square_by_hand():
    square = pad_to_square(Image.new("RGB", (4, 1), (9, 9, 9)), (1, 2, 3))
    assert square.size == (4, 4)
    assert np.array(square)[:, 0].tolist() == [[1, 2, 3], [9, 9, 9], [1, 2, 3], [1, 2, 3]]


def test_padding_equals_that_of_transformers_llava_processor(vlms, draw_image):
    processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    image = draw_image(2, (48, 30))
    expected = processor(images=[image], return_tensors="pt")["pixel_values"]
    family = _family(vlms, "llava", image_policy="pad")
    torch.testing.assert_close(family.process_images([image])["pixel_values"], expected)


def test_pixel_bounds_change_the_grid(checkpoints):
    small = load_vlm(
        checkpoints["qwen2_vl"], family="qwen2_vl", device="cpu", min_pixels=64, max_pixels=512
    )
    grid = small.grid((64, 32))
    assert grid.n_tokens * 64 <= 512
    made = small.family.process_images([Image.new("RGB", (64, 32))])
    assert made["image_grid_thw"].tolist() == [[1, 2 * grid.height, 2 * grid.width]]


def test_an_extreme_shape_is_refused(vlms):
    with pytest.raises(InputError, match="2000×4"):
        vlms["qwen2_vl"].grid((2000, 4))


def test_mrope_positions_are_kept_per_item(vlms):
    """A 2×3 grid takes positions for three columns: text after six tokens goes on at start+3."""
    vlm = vlms["qwen2_vl"]
    ids = torch.tensor([[7, 7, 2, 2, 2, 2, 2, 2, 8], [1, 1, 7, 2, 2, 2, 2, 8, 8]])
    mask = torch.tensor([[1] * 9, [0, 0] + [1] * 7])
    grids = [type(vlm.grid((32, 32)))(2, 3), type(vlm.grid((32, 32)))(2, 2)]
    positions = vlm.family.positions(vlm.model, ids, mask, grids)
    assert positions.prompt[:, 0].T.tolist() == [
        [0, 0, 0], [1, 1, 1],
        [2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4],
        [5, 5, 5],
    ]  # fmt: skip
    assert positions.first_answer.tolist() == [6, 5]
    assert vlm.model.model.rope_deltas is None
    assert isinstance(vlm.family, Qwen2VL)


@pytest.mark.parametrize(
    ("caps", "named"),
    [
        ({"attn_logit_softcapping": 50.0, "final_logit_softcapping": None}, "attention scores"),
        ({"attn_logit_softcapping": None, "final_logit_softcapping": 30.0}, "logits are soft"),
    ],
)
def test_a_paligemma_with_the_soft_caps_of_gemma_2_is_refused(
    vlms, checkpoints, tmp_path, caps, named
):
    folder = Path(shutil.copytree(checkpoints["paligemma"], tmp_path / "paligemma2"))
    config = vlms["paligemma"].model.config
    numbers = {
        name: getattr(config.text_config, name)
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                     "num_attention_heads", "num_key_value_heads", "head_dim")
    }  # fmt: skip
    kept = {**config.to_dict(), "text_config": Gemma2Config(**numbers, **caps).to_dict()}
    PaliGemmaConfig(**kept).save_pretrained(folder)
    with pytest.raises(InputError, match=f"family 'paligemma'.*{named}") as caught:
        load_vlm(folder, family="paligemma", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_layer_without_a_single_mlp_has_no_such_site():
    experts = torch.nn.Module()
    experts.mlp = torch.nn.ModuleList([torch.nn.Linear(4, 4)])
    with pytest.raises(InputError, match=r"ModuleList has no down_proj.*use site: residual"):
        get_family("llava").mlp_output(None, experts)  # type: ignore[arg-type]

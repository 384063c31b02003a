"""The family `auto` on tiny random checkpoints of four real classes of different layout."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from eager_reference import EagerReference, Forward, image_only
from PIL import Image
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Gemma3TextConfig,
    GenerationConfig,
    GotOcr2ImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessorPil,
    SiglipVisionConfig,
)

from vrp.errors import InputError
from vrp.vlm.batched_edits import Trunk
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import AttentionMask, CaptureSpec, prepare, run_batch, sample_answers
from vrp.vlm.families import auto
from vrp.vlm.families.auto import Auto
from vrp.vlm.families.base import FamilyOptions
from vrp.vlm.loading import load_vlm
from vrp.vlm.model import VLM
from vrp.vlm.residual_edits import MlpBypass, NeuronEdit
from vrp.vlm.verification import verify_layout

KINDS = ("qwen2_5_vl", "idefics3", "gemma3", "internvl")
SUFFIX = "\nAnswer the question using a single word or phrase."
WINDOW = 12
SIDE = 64


class Layout(NamedTuple):
    """What is known of a layout without asking the code under test."""

    specials: tuple[str, ...]
    """Special tokens; the first three are bos, eos, padding."""
    names: dict[str, str]
    """Special tokens that the processor asks the tokenizer for by name."""
    template: str
    """A chat template like that of the published checkpoints."""
    raw_prompt: str
    """What the template gives for an image and a question."""
    image: str
    """The image token."""
    framed: str
    """What the processor class writes for an image of one token."""


_TURN = (
    "{%- for message in messages -%}OPEN{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}IMAGE{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}CLOSE{%- endfor -%}{%- if add_generation_prompt -%}ANSWER{%- endif -%}"
)


def _template(opened: str, image: str, closed: str, answer: str) -> str:
    parts = {"OPEN": opened, "IMAGE": image, "CLOSE": closed, "ANSWER": answer}
    written = _TURN
    for name, text in parts.items():
        quoted = text.replace("\n", "\\n")
        written = written.replace(name, "{{- '" + quoted + "' -}}" if text else "")
    return written


LAYOUTS = {
    "qwen2_5_vl": Layout(
        ("<|bos|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|vision_start|>",
         "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
        {},
        _template("<|im_start|>user\n", "<|vision_start|><|image_pad|><|vision_end|>",
                  "<|im_end|>\n", "<|im_start|>assistant\n"),
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{q}<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|image_pad|>",
        "<|image_pad|>",
    ),
    "idefics3": Layout(
        ("<|begin_of_text|>", "<end_of_utterance>", "<pad>", "<fake_token_around_image>",
         "<image>", "<global-img>"),
        {},
        _template("<|begin_of_text|>User:", "<image>", "<end_of_utterance>\n", "Assistant:"),
        "<|begin_of_text|>User:<image>{q}<end_of_utterance>\nAssistant:",
        "<image>",
        "<fake_token_around_image><global-img><image><fake_token_around_image>",
    ),
    "gemma3": Layout(
        ("<bos>", "<end_of_turn>", "<pad>", "<start_of_turn>", "<start_of_image>",
         "<end_of_image>", "<image_soft_token>"),
        {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
         "image_token": "<image_soft_token>"},
        _template("<bos><start_of_turn>user\n", "<start_of_image>", "<end_of_turn>\n",
                  "<start_of_turn>model\n"),
        "<bos><start_of_turn>user\n<start_of_image>{q}<end_of_turn>\n<start_of_turn>model\n",
        "<image_soft_token>",
        "\n\n<start_of_image><image_soft_token><end_of_image>\n\n",
    ),
    "internvl": Layout(
        ("<|bos|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<img>", "</img>",
         "<IMG_CONTEXT>", "<video>"),
        {"start_image_token": "<img>", "end_image_token": "</img>",
         "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"},
        _template("<|im_start|>user\n", "<IMG_CONTEXT>\n", "<|im_end|>\n",
                  "<|im_start|>assistant\n"),
        "<|im_start|>user\n<IMG_CONTEXT>\n{q}<|im_end|>\n<|im_start|>assistant\n",
        "<IMG_CONTEXT>",
        "<img><IMG_CONTEXT></img>",
    ),
}  # fmt: skip


def build_tokenizer(layout: Layout) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that puts the first special token before a text."""
    symbols = [*layout.specials, *sorted(ByteLevel.alphabet()), "Yes", "ĠYes", "No", "ĠNo"]
    symbols += ["yes", "Ġyes", "no", "Ġno"]
    vocabulary = {token: index for index, token in enumerate(symbols)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in layout.specials]
    )
    bos, eos, pad = layout.specials[:3]
    tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=layout.names,
        chat_template=layout.template,
        clean_up_tokenization_spaces=False,
    )


def _text(n_words: int, **changes: Any) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "vocab_size": n_words, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return numbers | changes


def _siglip() -> dict[str, Any]:
    return {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip


def _qwen2_5_vl(n_words: int, image: int) -> tuple[Any, Any, dict[str, Any]]:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config=_text(n_words, rope_parameters=rope),
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32,
            "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "window_size": 16, "fullatt_block_indexes": [1],
        },
        image_token_id=image, video_token_id=7, vision_start_token_id=4, vision_end_token_id=5,
        tie_word_embeddings=False,
    )  # fmt: skip
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 256, "longest_edge": 4096},
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), processor, {}


def _idefics3(n_words: int, image: int) -> tuple[Any, Any, dict[str, Any]]:
    config = Idefics3Config(
        text_config=LlamaConfig(**_text(n_words)), vision_config=_siglip(), image_token_id=image,
        scale_factor=2, tie_word_embeddings=False,
    )  # fmt: skip
    processor = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    return Idefics3ForConditionalGeneration(config), processor, {"image_seq_len": 16}


def _gemma3(n_words: int, image: int) -> tuple[Any, Any, dict[str, Any]]:
    text = Gemma3TextConfig(
        **_text(n_words, head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW),
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    config = Gemma3Config(
        text_config=text, vision_config=SiglipVisionConfig(**_siglip(), vision_use_head=False),
        image_token_id=image, boi_token_id=4, eoi_token_id=5, mm_tokens_per_image=16,
        tie_word_embeddings=False,
    )  # fmt: skip
    processor = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return Gemma3ForConditionalGeneration(config), processor, {"image_seq_length": 16}


def _internvl(n_words: int, image: int) -> tuple[Any, Any, dict[str, Any]]:
    config = InternVLConfig(
        text_config=Qwen2Config(**_text(n_words)),
        vision_config=InternVLVisionConfig(**_siglip()), image_token_id=image,
        image_seq_length=16, tie_word_embeddings=False,
    )  # fmt: skip
    processor = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=True)
    return InternVLForConditionalGeneration(config), processor, {"image_seq_length": 16}


BUILDERS = {
    "qwen2_5_vl": _qwen2_5_vl, "idefics3": _idefics3, "gemma3": _gemma3, "internvl": _internvl,
}  # fmt: skip


def save_checkpoint(kind: str, folder: Path) -> None:
    """Write a checkpoint with random weights, random norm gains included."""
    layout = LAYOUTS[kind]
    tokenizer = build_tokenizer(layout)
    image = tokenizer.convert_tokens_to_ids(layout.image)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        model, image_processor, processor_config = BUILDERS[kind](len(tokenizer), image)
        for name, weight in model.named_parameters():
            # Weights as initialised hardly move the residual stream: answers would be constant.
            if weight.ndim >= 2:
                weight.copy_(torch.randn_like(weight) / weight[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                weight.add_(0.3 * torch.randn_like(weight))
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=2, bos_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(processor_config))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        save_checkpoint(kind, folders[kind])
    return folders


@pytest.fixture(scope="module")
def vlms(checkpoints: dict[str, Path]) -> dict[str, VLM]:
    return {kind: load_vlm(checkpoints[kind], family="auto", device="cpu") for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def vlm(kind: str, vlms: dict[str, VLM]) -> VLM:
    return vlms[kind]


class Reference(EagerReference):
    """The real processor class and eager attention, one item at a time, no padding."""

    def __init__(self, kind: str, folder: Path, *, image_token_id: int) -> None:
        super().__init__(AutoModelForImageTextToText, folder, image_token_id=image_token_id)
        self.layout = LAYOUTS[kind]
        tokenizer = build_tokenizer(self.layout)
        if kind == "qwen2_5_vl":
            _, images, _ = _qwen2_5_vl(len(tokenizer), 6)
            self.processor: Any = image_only(Qwen2_5_VLProcessor)(images, tokenizer)
        elif kind == "idefics3":
            _, images, _ = _idefics3(len(tokenizer), 4)
            images.do_image_splitting = False
            self.processor = Idefics3Processor(images, tokenizer, image_seq_len=16)
        elif kind == "gemma3":
            _, images, _ = _gemma3(len(tokenizer), 6)
            self.processor = Gemma3Processor(images, tokenizer, image_seq_length=16)
        else:
            _, images, _ = _internvl(len(tokenizer), 6)
            self.processor = image_only(InternVLProcessor)(images, tokenizer, image_seq_length=16)
        self.options = {"crop_to_patches": False} if kind == "internvl" else {}

    def inputs(self, item: VlmInput) -> dict[str, torch.Tensor]:
        text = self.layout.raw_prompt.format(q=item.question + SUFFIX)
        starts_with_bos = text.startswith(self.layout.specials[0])
        return dict(
            self.processor(
                images=[item.image], text=[text], return_tensors="pt",
                add_special_tokens=not starts_with_bos, **self.options,
            )
        )  # fmt: skip


@pytest.fixture(scope="module")
def references(checkpoints: dict[str, Path], vlms: dict[str, VLM]) -> dict[str, Reference]:
    return {
        kind: Reference(kind, checkpoints[kind], image_token_id=vlms[kind].image_token_id)
        for kind in KINDS
    }


@pytest.fixture
def reference(kind: str, references: dict[str, Reference]) -> Reference:
    return references[kind]


@pytest.fixture
def captures(vlm: VLM, items: list[VlmInput]) -> Any:
    return run_batch(vlm, items, CaptureSpec.full(("prompt_end", "answer_end")), max_new_tokens=4)


@pytest.fixture
def forwards(reference: Reference, items: list[VlmInput], captures: Any) -> list[Forward]:
    return [reference.forward(i, c.token_ids) for i, c in zip(items, captures, strict=True)]


# Prompts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "suffix"), [("short_answer", SUFFIX), ("plain", "")], ids=["short", "plain"]
)
def test_prompt_is_the_chat_template_in_the_processors_frame(checkpoints, kind, variant, suffix):
    vlm = load_vlm(checkpoints[kind], family="auto", device="cpu", prompt=variant)
    layout = LAYOUTS[kind]
    placeholder = "<start_of_image>" if kind == "gemma3" else layout.image
    raw = layout.raw_prompt.format(q="Is {it} red?" + suffix)
    assert vlm.render_prompt("Is {it} red?") == raw.replace(placeholder, layout.framed)
    ids = vlm.prompt_token_ids("Is it red?")
    assert ids.count(0) == 1
    assert ids[0] == 0


@pytest.mark.slow
def test_prompt_tokens_are_those_of_the_real_processor(vlm, reference, items):
    prepared = prepare(vlm, items)
    for row, item in enumerate(items):
        ids = prepared.input_ids[row][prepared.attention_mask[row].bool()]
        expected = reference.inputs(item)["input_ids"][0]
        assert ids.tolist() == expected.tolist()
        at = (prepared.input_ids[row] == vlm.image_token_id).nonzero()[:, 0]
        n_tokens = prepared.grids[row].n_tokens
        assert n_tokens == (expected == vlm.image_token_id).sum()
        assert prepared.image_index[row, :n_tokens].tolist() == at.tolist()


def test_pixels_are_those_of_the_real_processor(vlm, reference, items):
    for item in items[::2]:
        found = vlm.family.process_images([item.image])
        expected = reference.inputs(item)
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name])


def test_a_placeholder_in_the_question_is_refused(vlm, kind, items):
    placeholder = "<start_of_image>" if kind == "gemma3" else LAYOUTS[kind].image
    with pytest.raises(InputError, match="placeholder"):
        prepare(vlm, [items[0]._replace(question=f"What is {placeholder}?")])


# One batched, left-padded pass against eager attention, one item at a time


def test_batch_is_really_mixed(captures):
    assert len({c.n_prompt_tokens for c in captures}) > 3
    assert len({c.token_ids for c in captures}) > 3


@pytest.mark.slow
def test_greedy_answers_are_those_of_generate(vlm, reference, items, captures):
    for item, capture in zip(items, captures, strict=True):
        assert list(capture.token_ids) == reference.generate(item, 4, vlm.eos_token_ids)


def test_attention_rows_equal_eager(captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        queries = forward.n_prompt - 1 + np.arange(max(1, len(capture.token_ids)))
        maps = forward.attention[:, :, queries][..., forward.image_positions]
        np.testing.assert_allclose(capture.head_rows, maps.mean(2), atol=1e-5)
        np.testing.assert_allclose(capture.attention, maps.mean((1, 2)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["prompt_end", "answer_end"])
def test_hidden_states_equal_output_hidden_states(vlm, captures, forwards, position):
    for capture, forward in zip(captures, forwards, strict=True):
        n_answer = len(capture.token_ids) if position == "answer_end" else 0
        if position == "answer_end" and not n_answer:
            continue
        expected = forward.hidden[:, forward.n_prompt - 1 + n_answer]
        hidden = capture.hidden[position]
        np.testing.assert_allclose(hidden[:-1], expected[:-1], atol=1e-5, rtol=1e-5)
        normed = vlm.final_norm(torch.tensor(hidden[-1])).detach().numpy()
        np.testing.assert_allclose(normed, expected[-1], atol=1e-5, rtol=1e-5)


def test_logits_equal_eager(vlm, captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        logits = forward.logits[forward.n_prompt - 1]
        found = vlm.unembed(torch.tensor(capture.hidden["prompt_end"][-1])).numpy()
        np.testing.assert_allclose(found, logits, atol=1e-4)
        top = np.sort(logits)[::-1]
        assert capture.decision_margin == pytest.approx(top[0] - top[1], abs=1e-4)


def test_contributions_sum_to_the_logit_difference(captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        logits = forward.logits[forward.n_prompt - 1]
        difference = logits[capture.pair[0]] - logits[capture.pair[1]]
        parts = np.concatenate(
            [[capture.contribution_embed], capture.attention_contribution, capture.mlp_contribution]
        )
        assert abs(parts.sum() - difference) < 1e-4 * np.abs(parts).sum()
        np.testing.assert_allclose(
            capture.head_contribution.sum(1),
            capture.attention_contribution,
            atol=1e-4 * np.abs(parts).sum(),
        )


@pytest.mark.slow
def test_sampled_answers_do_not_depend_on_the_batch(vlm, items):
    options = {"k": 5, "temperature": 0.7, "top_p": 0.9, "seed": 3, "max_new_tokens": 3}
    together = sample_answers(vlm, items, **options)
    assert any(len(set(found.token_ids)) > 1 for found in together)
    for item, found in zip(items, together, strict=True):
        [alone] = sample_answers(vlm, [item], **options)
        assert alone == found


@pytest.mark.slow
def test_bfloat16_passes_the_proof_and_stays_near(checkpoints, kind, items, captures):
    half = load_vlm(checkpoints[kind], family="auto", device="cpu", dtype="bfloat16")
    spec = CaptureSpec(hidden=("prompt_end",))
    for exact, rough in zip(captures, run_batch(half, items, spec, max_new_tokens=1), strict=True):
        a, b = exact.hidden["prompt_end"][-1], rough.hidden["prompt_end"][-1]
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)


# Grids and boxes


@pytest.mark.parametrize("size", [(64, 64), (31, 77), (77, 31), (120, 40)])
def test_boxes_tile_the_image(vlm, size, draw_image):
    grid, boxes = vlm.grid(size), vlm.patch_boxes(size)
    cells = boxes.reshape(grid.height, grid.width, 4)
    np.testing.assert_allclose(cells[:, 1:, 0], cells[:, :-1, 2])
    np.testing.assert_allclose(cells[1:, :, 1], cells[:-1, :, 3])
    np.testing.assert_allclose(cells[0, 0, :2], 0, atol=1e-9)
    np.testing.assert_allclose(cells[-1, -1, 2:], size)
    [features] = vlm.family.encode_images(vlm.model, [draw_image(0, size)])
    assert features.shape == (grid.n_tokens, vlm.d_model)


def test_grids_by_hand(vlm, kind):
    # Qwen2.5-VL: 8 pixels a token; the others stretch to 64 pixels, 16 of them a token.
    expected = (5, 8) if kind == "qwen2_5_vl" else (4, 4)
    assert tuple(vlm.grid((64, 40))) == expected


@contextmanager
def _patches_apart(model: Any) -> Iterator[None]:
    """Vision attention adds nothing, so that an embedding depends on its own patches alone."""
    projections = ("attn.proj.", "self_attn.out_proj.", "attention.projection_layer.")
    weights = [
        weight
        for name, weight in model.named_parameters()
        if "language_model" not in name and any(part in name for part in projections)
    ]
    assert weights
    saved = [weight.detach().clone() for weight in weights]
    try:
        for weight in weights:
            weight.zero_()
        yield
    finally:
        for weight, value in zip(weights, saved, strict=True):
            weight.copy_(value)


@pytest.mark.slow
def test_tokens_look_where_their_boxes_are(vlm, draw_image):
    """Painting over one box changes that token's embedding, others' by no more than resizing."""
    image = draw_image(4, (SIDE, SIDE))
    with torch.inference_mode(), _patches_apart(vlm.model):
        [before] = vlm.family.encode_images(vlm.model, [image])
        for token, box in enumerate(vlm.patch_boxes(image.size).astype(int).tolist()):
            painted = image.copy()
            painted.paste((255, 0, 255), tuple(box))
            [after] = vlm.family.encode_images(vlm.model, [painted])
            change = (after - before).norm(dim=-1)
            assert (change > 0.3 * change.max()).nonzero()[:, 0].tolist() == [token]


def test_images_of_several_sizes_are_encoded_as_one_by_one(vlm, draw_image):
    images = [draw_image(1, (64, 40)), draw_image(2, (40, 64)), draw_image(3, (64, 64))]
    together = vlm.family.encode_images(vlm.model, images)
    for image, found in zip(images, together, strict=True):
        [alone] = vlm.family.encode_images(vlm.model, [image])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_pixel_bounds_change_the_grid_of_dynamic_models_only(checkpoints, kind):
    if kind != "qwen2_5_vl":
        with pytest.raises(InputError, match="max_pixels"):
            load_vlm(checkpoints[kind], family="auto", device="cpu", max_pixels=512)
        return
    small = load_vlm(checkpoints[kind], family="auto", device="cpu", min_pixels=64, max_pixels=512)
    assert small.grid((64, 32)).n_tokens <= 8
    with pytest.raises(InputError, match="2000×4"):
        small.grid((2000, 4))


# What Gemma 3 brings: windows, norms after the branches, one plus the weight


def test_prompts_are_longer_than_the_sliding_window(vlms, items):
    prepared = prepare(vlms["gemma3"], items)
    ends = prepared.input_ids.shape[1] - prepared.image_index.max(dim=1).values
    assert (ends > WINDOW).any()


def test_hidden_image_tokens_stay_hidden_under_both_kinds_of_mask(vlms, references, items):
    """Against eager attention given each layer's mask with the hidden columns taken out."""
    vlm, model = vlms["gemma3"], references["gemma3"].model
    item = items[0]._replace(question="Red?")
    keep = np.arange(16) % 3 > 0
    [capture] = run_batch(
        vlm, [item], CaptureSpec.full(), max_new_tokens=1, mask=AttentionMask([keep])
    )
    assert not capture.head_rows[:, :, ~keep].any()
    made = references["gemma3"].inputs(item)
    hidden_at = (made["input_ids"][0] == vlm.image_token_id).nonzero()[:, 0][~keep]
    handles = []
    for layer in model.model.language_model.layers:

        def hide(module, args, kwargs):
            mask = kwargs["attention_mask"].clone()
            own = torch.eye(mask.shape[-1], dtype=torch.bool)
            columns = torch.zeros(mask.shape[-1], dtype=torch.bool)
            columns[hidden_at] = True
            blocked = columns[None, None, None, :] & ~own
            return args, {
                **kwargs,
                "attention_mask": mask.masked_fill(blocked, torch.finfo(mask.dtype).min),
            }

        handles.append(layer.self_attn.register_forward_pre_hook(hide, with_kwargs=True))
    try:
        with torch.inference_mode():
            output = model(**made, output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    expected = torch.stack(output.hidden_states)[:-1, 0, -1].numpy()
    np.testing.assert_allclose(capture.hidden["prompt_end"][:-1], expected, atol=1e-5, rtol=1e-5)


def test_edits_above_kept_layers_answer_as_whole_runs_do(vlm, items):
    prepared = prepare(vlm, items)
    edits = [NeuronEdit(1, np.arange(16), 0.0), MlpBypass(2)]
    trunk = Trunk(vlm, prepared, edits)
    plain = [c.token_ids for c in run_batch(vlm, prepared, max_new_tokens=3)]
    for edit in edits:
        whole = [c.token_ids for c in run_batch(vlm, prepared, max_new_tokens=3, edits=[edit])]
        with trunk.under(edit):
            found = run_batch(vlm, prepared, max_new_tokens=3, edits=[edit])
        assert [c.token_ids for c in found] == whole
        assert whole != plain


@pytest.mark.parametrize(("kind", "offset"), [("gemma3", 1.0), ("internvl", 0.0)])
def test_the_gain_is_read_off_the_norm(vlms, kind, offset):
    vlm = vlms[kind]
    gain = vlm.family.norm_gain(vlm.final_norm)
    torch.testing.assert_close(gain, vlm.final_norm.weight + offset)
    ones = vlm.final_norm(torch.ones(vlm.d_model)) * np.sqrt(1 + 1e-6)
    torch.testing.assert_close(gain, ones, atol=1e-5, rtol=1e-5)


# Known families through `auto`


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("llava", (48, 48)), ("qwen2_vl", (56, 40))])
def test_known_families_read_the_same(tiny_checkpoint, draw_image, name, size):
    folder = tiny_checkpoint(name)
    own = load_vlm(folder, family=name, device="cpu")
    auto = load_vlm(folder, family="auto", device="cpu")
    questions = ["Is there a dog?", "How many?", "What is left of the red circle?"]
    inputs = [VlmInput(q, draw_image(i, size), q) for i, q in enumerate(questions)]
    assert [auto.prompt_token_ids(q) for q in questions] == [
        own.prompt_token_ids(q) for q in questions
    ]
    np.testing.assert_allclose(auto.patch_boxes(size), own.patch_boxes(size))
    spec = CaptureSpec.full()
    expected = run_batch(own, inputs, spec, max_new_tokens=3)
    for known, found in zip(expected, run_batch(auto, inputs, spec, max_new_tokens=3), strict=True):
        assert found.token_ids == known.token_ids
        np.testing.assert_allclose(found.head_rows, known.head_rows, atol=1e-6)
        np.testing.assert_allclose(
            found.hidden["prompt_end"], known.hidden["prompt_end"], atol=1e-5
        )
        np.testing.assert_allclose(found.mlp_contribution, known.mlp_contribution, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pad", "crop"])
def test_what_the_image_processor_does_is_seen(tiny_checkpoint, draw_image, tmp_path, policy):
    """The tiny LLaVA's pads to a square; told not to, it takes the centre. Boxes follow."""
    folder = Path(shutil.copytree(tiny_checkpoint("llava"), tmp_path / "copy"))
    _edit_json(
        folder / "preprocessor_config.json", lambda held: held.update(do_pad=policy == "pad")
    )
    auto = load_vlm(folder, family="auto", device="cpu")
    own = load_vlm(folder, family="llava", device="cpu", image_policy=policy)
    assert auto.family.image_policy == policy
    np.testing.assert_allclose(auto.patch_boxes((60, 30)), own.patch_boxes((60, 30)))
    image = draw_image(5, (60, 30))
    [found], [expected] = (v.family.encode_images(v.model, [image]) for v in (auto, own))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wrong = "crop" if policy == "pad" else "pad"
    with pytest.raises(InputError, match="image_policy"):
        load_vlm(folder, family="auto", device="cpu", image_policy=wrong)


def test_boxes_leave_out_pixels_beyond_the_last_whole_patch(vlms):
    """64 pixels hold two patches of 24: two tokens a side, over the first 48 pixels."""
    family = vlms["internvl"].family
    config = copy.deepcopy(family.config)
    config.vision_config.patch_size = (24, 24)
    fresh = Auto(config, family.tokenizer, family.image_processor, FamilyOptions())
    fresh._fix_grid(4)
    expected = [[0, 0, 24, 12], [24, 0, 48, 12], [0, 12, 24, 24], [24, 12, 48, 24]]
    np.testing.assert_allclose(fresh.patch_boxes((64, 32)), expected)


# What cannot be served


def _edited(checkpoints: dict[str, Path], kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoints[kind], folder / kind))


def _edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    held = json.loads(path.read_text())
    edit(held)
    path.write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("template", "named"),
    [(None, "no chat template"), ("{{ messages[0]['role'] }}", "image placeholder")],
)
def test_checkpoints_without_a_usable_template_are_refused(checkpoints, tmp_path, template, named):
    folder = _edited(checkpoints, "idefics3", tmp_path)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match=named):
        load_vlm(folder, family="auto", device="cpu")


@pytest.mark.parametrize(
    ("part", "key", "value", "named"),
    [
        ("text_config", "attn_logit_softcapping", 50.0, "soft-capped"),
        ("text_config", "layer_types", ["linear_attention"] * 3, "linear_attention"),
    ],
)
def test_layouts_that_cannot_be_read_are_refused(vlms, part, key, value, named):
    family = vlms["gemma3"].family
    config = type(family.config)(**family.config.to_dict())
    object.__setattr__(getattr(config, part), key, value)
    with pytest.raises(InputError, match=named):
        Auto(config, family.tokenizer, family.image_processor, FamilyOptions())


def test_a_tokenizer_without_the_processors_tokens_is_refused(vlms):
    family = vlms["internvl"].family
    bare = build_tokenizer(LAYOUTS["internvl"]._replace(names={}))
    with pytest.raises(InputError, match="start_image_token"):
        Auto(family.config, bare, family.image_processor, FamilyOptions())


def test_a_library_that_is_missing_is_named_in_one_line(vlms, monkeypatch):
    def fail(*args: Any) -> None:
        raise ImportError("\nneeds the library\nnum2words")

    monkeypatch.setattr(auto, "_image_only_processor", fail)
    family = vlms["idefics3"].family
    with pytest.raises(InputError, match="not installed") as caught:
        Auto(family.config, family.tokenizer, family.image_processor, FamilyOptions())
    assert "needs the library num2words" in str(caught.value)


def test_a_language_model_is_refused(tmp_path):
    LlamaForCausalLM(LlamaConfig(**_text(40))).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'llama' model"):
        load_vlm(tmp_path, family="auto", device="cpu")


@pytest.mark.slow
def test_paligemma_is_left_to_its_own_family(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("paligemma"), tmp_path / "copy"))
    with pytest.raises(InputError, match="no chat template"):
        load_vlm(folder, family="auto", device="cpu")
    (folder / "chat_template.jinja").write_text("<image>{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(InputError, match="prefix language model"):
        load_vlm(folder, family="auto", device="cpu")


def test_image_tokens_that_are_no_grid_are_refused(vlms, monkeypatch):
    family = vlms["internvl"].family
    fresh = Auto(family.config, family.tokenizer, family.image_processor, FamilyOptions())
    extra = torch.zeros(1, 17, 32)
    monkeypatch.setattr(fresh, "pooled_features", lambda model, images: extra)
    with pytest.raises(InputError, match="17 embeddings"):
        fresh.bind(vlms["internvl"].model)


def test_an_image_processor_that_mirrors_is_seen(vlms, monkeypatch):
    family = vlms["gemma3"].family
    fresh = Auto(family.config, family.tokenizer, family.image_processor, FamilyOptions())
    run = fresh._run_image_processor
    monkeypatch.setattr(
        fresh,
        "_run_image_processor",
        lambda image, **options: run(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), **options),
    )
    with pytest.raises(InputError, match="the image tokens cannot be located"):
        fresh.bind(vlms["gemma3"].model)


def test_logits_that_do_not_come_from_the_stream_alone_are_seen(vlm):
    """A scale on the logits, and a branch beside attention and MLP."""
    verify_layout(vlm)
    last = vlm.layers[-1]
    for module, change, named in [
        (vlm.model, lambda m, a, o: _scaled(o), "do not give its logits"),
        (last, lambda m, a, o: 1.5 * o + 0.5, "do not sum"),
    ]:
        handle = module.register_forward_hook(change)
        try:
            with pytest.raises(InputError, match=named):
                verify_layout(vlm)
        finally:
            handle.remove()


def _scaled(output: Any) -> Any:
    output["logits"] = 3 * output["logits"]
    return output


def test_a_model_that_fails_underway_is_refused_in_one_line(vlm):
    def fail(*args: Any) -> None:
        raise AttributeError("'deepstack_features' is missing")

    handle = vlm.layers[1].register_forward_hook(fail)
    try:
        with pytest.raises(InputError, match="deepstack_features"):
            verify_layout(vlm)
    finally:
        handle.remove()


def test_eos_that_comes_first_leaves_no_tokens(vlm, items, captures):
    ending = dataclasses.replace(vlm, eos_token_ids=(captures[0].token_ids[0],))
    [found] = run_batch(ending, items[:1], max_new_tokens=3)
    assert found.flags == ("no_answer_tokens",)

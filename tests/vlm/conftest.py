"""Tiny random models of the three real classes, saved and loaded like any checkpoint."""

import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from eager_reference import EagerReference, image_only
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GemmaConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from vrp.vlm.batching import VlmInput
from vrp.vlm.loading import load_vlm
from vrp.vlm.model import VLM

FAMILY_NAMES = ("llava", "paligemma", "qwen2_vl")

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SPECIALS = {
    "llava": ["<s>", "</s>", "<image>"],
    "paligemma": ["<bos>", "<eos>", "<image>"],
    "qwen2_vl": [
        "<|endoftext|>",
        "<|im_end|>",
        "<|image_pad|>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|video_pad|>",
    ],
}


def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with a few whole words."""
    specials = SPECIALS[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*specials, *alphabet])}
    for word in ("Yes", "No", "yes", "no"):
        for spelled in (word, f"Ġ{word}"):
            vocab[spelled] = len(vocab)
    merges = _merges(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if family == "llava":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1]
    )
    fast.add_special_tokens({"additional_special_tokens": specials[2:]})
    if family == "qwen2_vl":
        fast.chat_template = CHAT_TEMPLATE
    return fast


def _merges(vocab: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for first, rest in (("Y", "es"), ("N", "o"), ("y", "es"), ("n", "o")):
        if rest == "es" and ("e", "s") not in merges:
            vocab["es"] = len(vocab)
            merges.append(("e", "s"))
        merges.append((first, rest))
        merges.append(("Ġ", first + rest))
    return merges


def _text_numbers(n_words: int, **changes: object) -> dict:
    numbers = {
        "vocab_size": n_words,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return {**numbers, **changes}


def build_llava(n_words: int) -> tuple[torch.nn.Module, object]:
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        image_size=32, patch_size=8, projection_dim=24, initializer_range=0.15,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text_numbers(n_words)),
        image_token_index=2,
        image_seq_length=16,
    )
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return LlavaForConditionalGeneration(config), processor


def build_paligemma(n_words: int) -> tuple[torch.nn.Module, object]:
    vision = SiglipVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8, vision_use_head=False,
    )  # fmt: skip
    text = GemmaConfig(**_text_numbers(n_words, head_dim=8, num_key_value_heads=1))
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=2,
        vocab_size=n_words,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,  # tied and random, it would only ever repeat itself
    )
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor.image_seq_length = 16
    return PaliGemmaForConditionalGeneration(config), processor


def build_qwen2_vl(n_words: int) -> tuple[torch.nn.Module, object]:
    config = Qwen2VLConfig(
        text_config=_text_numbers(
            n_words,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        ),
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "initializer_range": 0.15,
        },
        image_token_id=2,
        video_token_id=6,
        vision_start_token_id=4,
        vision_end_token_id=5,
    )  # fmt: skip
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 256, "longest_edge": 2048},
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config), processor


BUILDERS = {"llava": build_llava, "paligemma": build_paligemma, "qwen2_vl": build_qwen2_vl}


def save_checkpoint(family: str, folder: Path) -> None:
    """Write a checkpoint of the family with random weights, random norm gains included."""
    torch.manual_seed(7)
    tokenizer = build_tokenizer(family)
    model, image_processor = BUILDERS[family](len(tokenizer))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=1, bos_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder a family."""
    folders = {}
    for family in FAMILY_NAMES:
        folders[family] = tmp_path_factory.mktemp(family)
        save_checkpoint(family, folders[family])
    return folders


@pytest.fixture(scope="session")
def vlms(checkpoints: dict[str, Path]) -> dict[str, VLM]:
    """One loaded model a family."""
    return {
        family: load_vlm(checkpoints[family], family=family, device="cpu")
        for family in FAMILY_NAMES
    }


@pytest.fixture(params=FAMILY_NAMES)
def vlm(request: pytest.FixtureRequest, vlms: dict[str, VLM]) -> VLM:
    """Each family's model in turn."""
    return vlms[request.param]


def noise_image(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return an image of blocks in random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def make_items(n_items: int = 8) -> list[VlmInput]:
    """Return items of several image sizes and question lengths; two share each image."""
    sizes = [(32, 32), (48, 24), (24, 40), (40, 40)]
    questions = ["Is there a dog?", "How many red things are there?", "What?", "Left of " * 3]
    items = []
    for index in range(n_items):
        image = noise_image(index // 2, sizes[(index // 2) % len(sizes)])
        question = f"{questions[index % len(questions)]} {string.ascii_letters[index % 52]}"
        items.append(
            VlmInput(
                f"item-{index}", image, question, "open", (5 + index, 9), f"image-{index // 2}"
            )
        )
    return items


@pytest.fixture
def items() -> list[VlmInput]:
    """Eight items, mixed in length and grid."""
    return make_items()


@pytest.fixture
def many_items() -> list[VlmInput]:
    """Sixteen items, mixed in length and grid."""
    return make_items(16)


@pytest.fixture
def draw_image() -> Callable[[int, tuple[int, int]], Image.Image]:
    """A function of seed and size."""
    return noise_image


@contextmanager
def _overwritten(weight: torch.Tensor, value: torch.Tensor | float) -> Iterator[None]:
    saved = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(torch.as_tensor(value).expand_as(weight))
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(saved)


@pytest.fixture
def overwritten() -> Callable[..., Any]:
    """A context in which a weight holds other values."""
    return _overwritten


class Reference(EagerReference):
    """transformers' own processor and eager attention, one item at a time, no padding."""

    answer_token_types: ClassVar = {"token_type_ids": 1, "mm_token_type_ids": 0}

    def __init__(self, vlm: VLM, folder: Path) -> None:
        super().__init__(vlm.family.model_class, folder, image_token_id=vlm.image_token_id)
        self.vlm = vlm
        tokenizer = build_tokenizer(vlm.family.name)
        images = vlm.family.image_processor
        if vlm.family.name == "llava":
            self.processor: Any = LlavaProcessor(
                images, tokenizer, 8, "default", None, "<image>", 1
            )
        elif vlm.family.name == "paligemma":
            self.processor = PaliGemmaProcessor(images, tokenizer)
        else:
            self.processor = image_only(Qwen2VLProcessor)(
                images, tokenizer, chat_template=tokenizer.chat_template
            )

    def inputs(self, item: VlmInput) -> dict[str, torch.Tensor]:
        """What transformers' own processor makes of the item."""
        image = item.image
        if self.vlm.family.name == "paligemma":
            text = f"<image>{item.question}"
        else:
            text = self.vlm.render_prompt(item.question)
        if self.vlm.family.name == "llava":
            side = max(image.size)
            mean = tuple(int(255 * m) for m in self.vlm.family.image_processor.image_mean)
            square = Image.new("RGB", (side, side), mean)
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        made = dict(self.processor(images=[image], text=[text], return_tensors="pt"))
        made.pop("labels", None)
        return made


@pytest.fixture(scope="session")
def references(vlms: dict[str, VLM], checkpoints: dict[str, Path]) -> dict[str, Reference]:
    """One reference a family."""
    return {family: Reference(vlms[family], checkpoints[family]) for family in FAMILY_NAMES}


@pytest.fixture
def reference(vlm: VLM, references: dict[str, Reference]) -> Reference:
    """The reference of the family under test."""
    return references[vlm.family.name]

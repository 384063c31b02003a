"""Published checkpoints without weights: real classes and image processors, random or no values.

The tokenizer alone is a stand-in.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText

from vrp.planning.published_dimensions import PublishedCheckpoint
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.families import get_family
from vrp.vlm.families.base import FamilyOptions
from vrp.vlm.loading import DTYPES
from vrp.vlm.model import VLM

# What leaves the meta device is ones: with another end-of-sequence token answers run on.
_EOS_TOKEN_ID = 0


def build_model(
    published: PublishedCheckpoint, *, dtype: str = "bfloat16", device: str = "meta"
) -> VLM:
    """Return a published checkpoint as loaded, with a stand-in for the tokenizer.

    On the meta device it has shapes alone; on any other, random weights from torch's generator.
    """
    family_class = get_family(published.family)
    model_class: Any = family_class.model_class
    config = model_class.config_class.from_dict(copy.deepcopy(published.config))
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=DTYPES[dtype])
    model.eval().requires_grad_(False)
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    tokenizer = _StandInTokenizer(config.image_token_id)
    family = family_class(
        config, tokenizer, image_processor(published.image_processor), FamilyOptions()
    )
    family.bind(model)
    return VLM(
        model=model, family=family, tokenizer=tokenizer, eos_token_ids=(_EOS_TOKEN_ID,), weights=""
    )


def image_processor(published: dict[str, Any]) -> Any:
    """Return an image processor of the class and settings that are published."""
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

    def convert_ids_to_tokens(self, token_id: int) -> str:
        """Return what stands for an image in the template."""
        assert token_id == self._image_token_id
        return "<|image_pad|>"

    def batch_decode(self, rows: Sequence[Sequence[int]], **options: Any) -> list[str]:
        """Return ids as text."""
        return [" ".join(str(token) for token in row) for row in rows]

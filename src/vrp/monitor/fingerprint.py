"""Digests of what a monitor was fitted with, beside the weights: processor and prompt."""

import hashlib
import json
from typing import Any

from vrp.vlm.families.base import Family

# What an image processor's configuration says of pixels; the rest names classes and devices.
_OF_PIXELS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "do_convert_rgb", "do_pad", "pad_size",
    "patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels",
)  # fmt: skip
QUESTIONS = (
    "Is it red?",
    "How many dogs are there",
    "what colour has the cup",
    "A cat, or 2 cats!",
)
"""Questions by which a prompt is known: they share neither their beginning nor their end."""


def processor_digest(family: Family) -> str:
    """Digest how text becomes tokens and an image becomes pixels; 16 hexadecimal digits."""
    image = family.image_processor.to_dict()
    pixels = {name: image[name] for name in _OF_PIXELS if image.get(name) is not None}
    return _digest([_vocabulary(family.tokenizer), pixels, family.image_policy])


def prompt_digest(family: Family) -> str:
    """Digest the words and tokens that are put around a question; 16 hexadecimal digits."""
    texts = [family.render_prompt(question) for question in QUESTIONS]
    return _digest([texts, family.prompt_token_ids(QUESTIONS)])


def prompt_frame(family: Family) -> tuple[list[int], list[int]]:
    """Return the tokens that every prompt begins and ends with, the image as one placeholder."""
    rows = family.prompt_token_ids(QUESTIONS)
    return _shared_beginning(rows), _shared_beginning([row[::-1] for row in rows])[::-1]


def _shared_beginning(rows: list[list[int]]) -> list[int]:
    found = []
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        found.append(tokens[0])
    return found


def _vocabulary(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sorted(tokenizer.get_vocab().items())
    # Padding and truncation are settings of a call, and no part of the tokenizer.
    return json.loads(backend.to_str()) | {"padding": None, "truncation": None}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""A model's dimensions: all that planning knows of it, measured once and kept as JSON.

`vrp.vlm.measuring` makes them; reading them needs no library of models.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from vrp.data.item import MOST_ELONGATED, ImageSize
from vrp.errors import InputError

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Data type of weights and activations → bytes of a value."""


class Quadratic(NamedTuple):
    """Coefficients of constant + linear·n + quadratic·n²."""

    constant: int
    linear: int
    quadratic: int

    def at(self, n: int) -> int:
        """Return the value at n."""
        return self.constant + n * (self.linear + n * self.quadratic)


@dataclass(frozen=True)
class ImageRule:
    """How many image tokens an image of some size becomes."""

    n_tokens: int | None
    """Of every image; None: the size decides."""
    token_side: int = 0
    """Pixels along the side of an image token, after resizing."""
    min_pixels: int = 0
    """The least pixels after resizing."""
    max_pixels: int = 0
    """The most pixels after resizing."""

    def count(self, image_size: ImageSize) -> int:
        """Return the image tokens of an image of (width, height) pixels.

        Raises:
            InputError: an image that the rule does not take.
        """
        if self.n_tokens is not None:
            return self.n_tokens
        rows, columns = self.grid(image_size)
        return rows * columns

    def grid(self, image_size: ImageSize) -> tuple[int, int]:
        """Return rows and columns of image tokens where the size decides.

        The rule is Qwen2-VL's: sides rounded to whole tokens, then scaled into the pixel bounds
        at the same shape.

        Raises:
            InputError: an image that the rule does not take.
        """
        width, height = image_size
        if min(width, height) < 1 or max(width, height) > MOST_ELONGATED * min(width, height):
            raise InputError(
                f"an image of {width}×{height} pixels cannot be used: its sides must not differ "
                f"by more than a factor of {MOST_ELONGATED}"
            )
        rows, columns = (round(edge / self.token_side) for edge in (height, width))
        n_pixels = rows * columns * self.token_side**2
        if n_pixels > self.max_pixels:
            scale = math.sqrt(height * width / self.max_pixels)
            rows, columns = (
                max(1, math.floor(edge / scale / self.token_side)) for edge in (height, width)
            )
        elif n_pixels < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            rows, columns = (math.ceil(edge * scale / self.token_side) for edge in (height, width))
        return rows, columns


@dataclass(frozen=True)
class Activations:
    """Bytes of tensors alive at the peak, beside the weights, for one item."""

    token: int
    """Of a prefill, for each token of the prompt: its embedding, its keys and values in all
    layers, and what the layer with most of it holds."""
    image: Quadratic
    """Of encoding an image, by its image tokens."""


@dataclass(frozen=True)
class Dimensions:
    """Everything about a vision-language model that its cost depends on."""

    model_type: str
    """Model type in the checkpoint's `config.json`."""
    n_parameters: int
    """All parameters; tied weights count once."""
    checkpoint_bytes: int
    """Bytes of its weights in the data type in which they are published."""
    n_layers: int
    """Decoder layers L."""
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
    n_frame_tokens: int
    """Prompt tokens beside image and question."""
    images: ImageRule
    """From image size to image tokens."""
    token_flops: int
    """Operations of one token in the dense parts of all decoder layers."""
    pair_flops: int
    """Operations of one query with one key, in all decoder layers."""
    image_flops: Quadratic
    """Operations to encode an image, by its image tokens."""
    in_16_bits: Activations
    """Memory with activations in bfloat16 or float16."""
    in_32_bits: Activations
    """Memory with activations in float32."""
    is_causal: bool = True
    """Whether no token attends to a later one, so that what prompts begin with is run once an
    image."""
    drops_tokens: bool = True
    """Whether image tokens that are hidden are left out of the sequence."""

    def activations(self, dtype: str) -> Activations:
        """Return the memory with activations of a data type."""
        return self.in_32_bits if BYTES_PER_VALUE[dtype] == 4 else self.in_16_bits

    def n_image_tokens(self, image_size: ImageSize) -> int:
        """Return S for an image of (width, height) pixels."""
        return self.images.count(image_size)

    def with_pixel_bounds(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> "Dimensions":
        """Return the same with other pixel bounds, as a config may set them.

        Raises:
            InputError: the model makes every image one size.
        """
        given = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        bounds = {name: value for name, value in given.items() if value is not None}
        if not bounds:
            return self
        if self.images.n_tokens is not None:
            raise InputError(
                f"a {self.model_type!r} model resizes every image to one size: "
                "remove min_pixels and max_pixels"
            )
        return replace(self, images=replace(self.images, **bounds))

    def as_json(self) -> dict[str, Any]:
        """Return plain data, to be kept and read again."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Dimensions":
        """Read what `as_json` gave.

        Raises:
            InputError: it is something else.
        """
        try:
            read = {
                "images": ImageRule(**fields["images"]),
                "image_flops": Quadratic(*fields["image_flops"]),
                **{name: _activations(fields[name]) for name in ("in_16_bits", "in_32_bits")},
            }
            return cls(**{**fields, **read})
        except (KeyError, TypeError):
            raise InputError("these are no dimensions; run `vrp fetch-model` again") from None


def _activations(fields: Mapping[str, Any]) -> Activations:
    return Activations(fields["token"], Quadratic(*fields["image"]))

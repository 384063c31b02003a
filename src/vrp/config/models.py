"""Which models answer, and how they are run."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.folder import Place
from vrp.config.section import Section


class ModelConfig(Section):
    """One vision-language model."""

    family: str
    """The model family, such as `llava`; `auto` infers the layout from the checkpoint."""
    checkpoint: Place
    """A hub id, a folder, or `zoo:<family>` for an embedded tiny model."""
    revision: str | None = None
    """The pinned commit of a hub checkpoint."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of weights and activations; float32 on the CPU is the reference."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:0` …, or `auto`: a GPU if there is one."""
    device_map: str | None = None
    """Passed to transformers for a model that does not fit on one GPU, such as `auto`."""
    batch_size: int | None = Field(default=None, ge=1)
    """Items per forward pass in every stage that runs this model; null: the value of the stage's
    section. Results do not depend on it, and a change reruns nothing that is finished."""
    prompt: str = "short_answer"
    """The family's prompt variant: `short_answer`, `plain`, or one of its own."""
    image_policy: Literal["pad", "crop", "resize", "native"] | None = None
    """How images are resized or cropped; null: the family's default."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Dynamic resolution (such as Qwen2-VL's): minimum number of pixels after resizing."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Dynamic resolution: maximum number of pixels after resizing; it affects answers."""
    map_layers: tuple[int, ...] | None = None
    """Layers over which a signal's attention map is averaged; null: all. (The published study uses
    layers 16 to 31 of LLaVA and all layers of the other models.)"""

    @field_validator("map_layers")
    @classmethod
    def _distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 0 or len(set(value)) < len(value)):
            raise ValueError("give at least one layer, each once, counted from 0")
        return value

    @model_validator(mode="after")
    def _pixels_in_order(self) -> "ModelConfig":
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(
                f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}; swap them"
            )
        return self

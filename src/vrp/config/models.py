"""Which models answer, and how they are run."""

from typing import Literal

from pydantic import Field, field_validator

from vrp.config.folder import Place
from vrp.config.section import Section


class ModelConfig(Section):
    """One vision-language model."""

    family: str
    """Its family, such as `llava`; `auto` infers the layout from any other checkpoint."""
    checkpoint: Place
    """A hub id, a folder, or `zoo:<family>` for an embedded tiny model."""
    revision: str | None = None
    """The pinned commit of a hub checkpoint."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Weights and activations; float32 on the CPU is the reference."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:0` …, or `auto`: the GPU where there is one."""
    device_map: str | None = None
    """Handed to transformers for a model that one GPU cannot hold, such as `auto`."""
    batch_size: int | None = Field(default=None, ge=1)
    """Items a forward in every stage that runs this model; None: as the stage's section says.
    Results do not depend on it, and nothing that is finished is rerun for it."""
    prompt: str = "short_answer"
    """The family's prompt variant: `short_answer`, `plain`, or one of its own."""
    image_policy: Literal["pad", "crop", "resize", "native"] | None = None
    """How images are made to fit; None is the family's own default."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Dynamic resolution (such as Qwen2-VL's): the least pixels after resizing."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Dynamic resolution: the most pixels after resizing; it changes answers."""
    map_layers: tuple[int, ...] | None = None
    """Layers that the attention map of a signal is averaged over; null: all. (The published study
    reads layers 16 to 31 of LLaVA and all of the others.)"""

    @field_validator("map_layers")
    @classmethod
    def _distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 0 or len(set(value)) < len(value)):
            raise ValueError("give at least one layer, each once, counted from 0")
        return value

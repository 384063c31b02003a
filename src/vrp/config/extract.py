"""How a model is run over the items, and what is kept."""

from typing import Literal

from pydantic import Field, field_validator

from vrp.config.section import Section

Position = Literal["prompt_end", "answer_end"]


class ExtractConfig(Section):
    """The pass that yields answers, attention, hidden states and the lens."""

    shards: int = Field(default=1, ge=1)
    """Files, and so jobs, a model."""
    batch_size: int = Field(default=32, ge=1)
    """Items a forward; answers do not depend on it."""
    max_new_tokens: int = Field(default=6, ge=1)
    """Longest answer."""
    positions: tuple[Position, ...] = ("prompt_end",)
    """Where the residual stream is kept; `prompt_end` is the last prompt token, which the probes
    read."""
    hidden_dtype: Literal["float32", "float16"] = "float32"
    """How hidden states are stored; float16 stops on overflow."""
    blind: bool = True
    """Run every question again with a blank image, as a guard beside every probe."""

    @field_validator("positions")
    @classmethod
    def _holds_prompt_end(cls, value: tuple[Position, ...]) -> tuple[Position, ...]:
        if "prompt_end" not in value or len(set(value)) != len(value):
            raise ValueError("give prompt_end, and each position once")
        return value

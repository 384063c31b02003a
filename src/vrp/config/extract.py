"""How a model is run over the items, and what is kept."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from vrp.config.section import Section
from vrp.data.datasets import all_tasks
from vrp.errors import unknown_name

Position = Literal["prompt_end", "answer_end"]
Captured = Literal["attention", "heads", "lens", "contributions", "residual_update"]
_CAPTURED: tuple[Captured, ...] = get_args(Captured)


class ExtractConfig(Section):
    """The pass that yields answers, attention, hidden states and the lens."""

    shards: int = Field(default=1, ge=1)
    """Shards per model. Each shard is one job and one file of each table."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass; answers do not depend on it."""
    max_new_tokens: int = Field(default=6, ge=1)
    """Maximum length of an answer in tokens."""
    max_new_tokens_by_task: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})
    """Maximum length of an answer in tokens for tasks that differ from `max_new_tokens`, such as
    `existence: 2`."""
    capture: tuple[Captured, ...] = _CAPTURED
    """Quantities that are read in addition to answers and hidden states; those that are not listed
    are reported as "not captured". `attention`: attention to the image tokens, mean over heads;
    `heads`: H_s and C_k of every head (needs `attention`); `lens`: logit-lens margins of every
    layer; `contributions`: contributions of embedding, attention, MLPs and heads to the answer's
    logit difference; `residual_update`: change and norm of the image tokens by layer, from which
    attention sinks are identified."""
    positions: tuple[Position, ...] = ("prompt_end",)
    """Token positions at which the residual stream is stored. The probes read `prompt_end`, the
    last prompt token."""
    hidden_dtype: Literal["float32", "float16"] = "float32"
    """Type in which hidden states are stored; float16 stops with an error on overflow."""
    blind: bool = True
    """Ask every question again with a blank image, as a control for the probes."""

    @field_validator("max_new_tokens_by_task")
    @classmethod
    def _are_tasks(cls, value: dict[str, int]) -> dict[str, int]:
        for task in value:
            if task not in all_tasks():
                raise ValueError(unknown_name("task", task, all_tasks()))
        return value

    @field_validator("capture")
    @classmethod
    def _each_once(cls, value: tuple[Captured, ...]) -> tuple[Captured, ...]:
        if len(set(value)) != len(value):
            raise ValueError("give each name once")
        if "heads" in value and "attention" not in value:
            raise ValueError("heads needs attention: add attention, or leave heads out")
        # In one order, so that a list written in another reruns nothing.
        return tuple(name for name in _CAPTURED if name in value)

    @field_validator("positions")
    @classmethod
    def _holds_prompt_end(cls, value: tuple[Position, ...]) -> tuple[Position, ...]:
        if "prompt_end" not in value or len(set(value)) != len(value):
            raise ValueError("give prompt_end, and each position once")
        return value


def answer_limits(extract: ExtractConfig) -> Mapping[str, int]:
    """Return the longest answer of every task, in tokens; tasks that are not named, too."""
    return defaultdict(lambda: extract.max_new_tokens, extract.max_new_tokens_by_task)

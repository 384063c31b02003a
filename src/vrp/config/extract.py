"""How a model is run over the items, and what is kept."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from vrp.config.sample import Task
from vrp.config.section import Section

Position = Literal["prompt_end", "answer_end"]
Captured = Literal["attention", "heads", "lens", "contributions", "residual_update"]
_CAPTURED: tuple[Captured, ...] = get_args(Captured)


class TaskAnswerLengths(Section):
    """Longest answers in tokens, where a task's differs from `extract.max_new_tokens`."""

    existence: int | None = Field(default=None, ge=1)
    """Longest answer to "is there …?"; null: `extract.max_new_tokens`."""
    counting: int | None = Field(default=None, ge=1)
    """Longest answer to "how many …?"; null: `extract.max_new_tokens`."""
    spatial: int | None = Field(default=None, ge=1)
    """Longest answer to a question of place; null: `extract.max_new_tokens`."""
    open: int | None = Field(default=None, ge=1)
    """Longest answer to any other question of VQA; null: `extract.max_new_tokens`."""
    text: int | None = Field(default=None, ge=1)
    """Longest answer to "what is written there?"; null: `extract.max_new_tokens`."""


def answer_limits(max_new_tokens: int, by_task: TaskAnswerLengths) -> dict[str, int]:
    """Return the longest answer of every task, in tokens."""
    return {task: getattr(by_task, task) or max_new_tokens for task in get_args(Task)}


class ExtractConfig(Section):
    """The pass that yields answers, attention, hidden states and the lens."""

    shards: int = Field(default=1, ge=1)
    """Files, and so jobs, a model."""
    batch_size: int = Field(default=32, ge=1)
    """Items a forward; answers do not depend on it."""
    max_new_tokens: int = Field(default=6, ge=1)
    """Longest answer, in tokens."""
    max_new_tokens_by_task: TaskAnswerLengths = TaskAnswerLengths()
    """Longest answers of single tasks."""
    capture: tuple[Captured, ...] = _CAPTURED
    """What is read in the pass beside answers and hidden states; what is left out costs nothing
    and is reported as not captured. `attention`: rows to the image tokens, mean over heads;
    `heads`: H_s and C_k of every head (with `attention`); `lens`: logit-lens margins of every
    layer; `contributions`: what embedding, attention, MLPs and heads add to the answer's logit
    difference; `residual_update`: change of the image tokens by layer."""
    positions: tuple[Position, ...] = ("prompt_end",)
    """Where the residual stream is kept; `prompt_end` is the last prompt token, which the probes
    read."""
    hidden_dtype: Literal["float32", "float16"] = "float32"
    """How hidden states are stored; float16 stops on overflow."""
    blind: bool = True
    """Run every question again with a blank image, as a guard beside every probe."""

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

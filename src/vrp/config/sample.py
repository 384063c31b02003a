"""Which items the study asks about, and how answers are scored."""

from typing import Literal

from pydantic import Field, model_validator

from vrp.config.section import Section

Task = Literal["existence", "counting", "spatial", "open"]


class SplitConfig(Section):
    """One split of the study: an exact number of items of one task."""

    dataset: Literal["pope", "vqa", "own"]
    """Which reader; the files' places are in the `data` section."""
    split: str
    """POPE: random, popular or adversarial. VQA: the same word as the task."""
    task: Task
    """What the question asks for; headline numbers are within task."""
    count: int = Field(ge=1)
    """Met exactly, or the run stops with what was short."""


class ScoringConfig(Section):
    """When an answer is correct."""

    pope_parser: Literal["strict", "official"] = "strict"
    """`strict`: exactly one of the whole words yes and no; `official`: POPE's published rule."""
    vqa_rule: Literal["normalised", "official"] = "normalised"
    """`normalised`: answers are always normalised before they are compared; `official`: the
    published code to the letter, which compares raw text where all annotators agree."""
    vqa_threshold: float = Field(default=0.5, gt=0, le=1)
    """VQA accuracy from which an answer counts as correct."""


class SampleConfig(Section):
    """The items of the study."""

    splits: tuple[SplitConfig, ...] = (
        SplitConfig(dataset="pope", split="adversarial", task="existence", count=1000),
        SplitConfig(dataset="vqa", split="counting", task="counting", count=1000),
        SplitConfig(dataset="vqa", split="spatial", task="spatial", count=1000),
        SplitConfig(dataset="vqa", split="open", task="open", count=90),
    )
    """Sampled in this order; a question is taken once."""

    @model_validator(mode="after")
    def _unique_splits(self) -> "SampleConfig":
        names = [(split.dataset, split.split) for split in self.splits]
        doubled = sorted({"/".join(name) for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"splits given twice: {', '.join(doubled)}")
        return self

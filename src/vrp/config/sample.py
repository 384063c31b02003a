"""Which items the study asks about, and how answers are scored."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from vrp.config.section import Section
from vrp.data.datasets import get_dataset
from vrp.errors import InputError


def _known(name: str) -> str:
    try:
        return get_dataset(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


DatasetName = Annotated[str, AfterValidator(_known)]
"""A data set, of the project or of an extension."""


class SplitConfig(Section):
    """One split of the study: an exact number of items of one task."""

    dataset: DatasetName
    """The data set: `pope`, `vqa`, `textvqa`, `own`, or one that an extension registers."""
    split: str
    """The split. POPE: random, popular or adversarial. VQA: same as `task`. TextVQA: train or val.
    Own data: a name of your choice."""
    task: str
    """What the questions ask for; headline numbers are computed within tasks. POPE asks for
    existence, TextVQA for text (its questions ask what is written in the image)."""
    count: int = Field(ge=1)
    """Exact number of items. The run stops with an error if there are fewer."""

    @field_validator("split")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if not value.strip() or "/" in value or "\\" in value:
            raise ValueError("a split's name is part of file names: give a word without slashes")
        return value

    @model_validator(mode="after")
    def _asks_what_its_data_set_asks(self) -> "SplitConfig":
        tasks = get_dataset(self.dataset).tasks
        if self.task not in tasks:
            raise ValueError(
                f"{self.dataset} does not ask for {self.task}; its task is {' or '.join(tasks)}"
            )
        return self


class ScoringConfig(Section):
    """When an answer is correct."""

    pope_parser: Literal["strict", "official"] = "strict"
    """`strict`: the answer contains exactly one of the words yes and no; `official`: POPE's
    published rule."""
    vqa_rule: Literal["normalised", "official"] = "normalised"
    """`normalised`: answers are always normalised before they are compared; `official`: the
    published code to the letter, which compares raw text if all annotators agree. On raw answers
    `official` gives much less than published, because toolkits normalise answers first:
    LLaVA-1.5-13B on TextVQA has 49.1, normalised 61.25, published 61.3."""
    vqa_threshold: float = Field(default=0.5, gt=0, le=1)
    """VQA accuracy at which an answer counts as correct. Questions for which no answer can reach it
    are dropped and counted."""


class SampleConfig(Section):
    """The items of the study."""

    splits: tuple[SplitConfig, ...] = (
        SplitConfig(dataset="pope", split="adversarial", task="existence", count=1000),
        SplitConfig(dataset="vqa", split="counting", task="counting", count=1000),
        SplitConfig(dataset="vqa", split="spatial", task="spatial", count=1000),
        SplitConfig(dataset="vqa", split="open", task="open", count=90),
    )
    """Sampled in this order. Each POPE split keeps the questions of its own file, balanced; a
    question that several splits draw is asked once. Several splits of own data draw each line at
    most once."""

    @model_validator(mode="after")
    def _unique_splits(self) -> "SampleConfig":
        names = [(split.dataset, split.split) for split in self.splits]
        doubled = sorted({"/".join(name) for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"splits given twice: {', '.join(doubled)}")
        return self

"""Neuron ablation: does the answer depend on a few dimensions of the residual stream?"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.section import Section
from vrp.errors import unknown_name
from vrp.interventions.ablation import ABLATION_KINDS, ablation_conditions
from vrp.interventions.masking import SHAM


class AblationEntry(Section):
    """One way to ablate; random ones are repeated for every seed."""

    neurons: str
    """`top`: the sparse probe's largest weights, fitted without the item's fold; `matched`: drawn
    among those nearest to the top ones in the size of their activations; `random`: among all;
    `mlp`: the layer's whole MLP is bypassed; or a kind that an extension registers."""
    count: int | None = Field(default=None, ge=1)
    """Neurons ablated."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Or their share of the width."""
    value: Literal["zero", "mean", "plus_100", "minus_100"] = "zero"
    """Value that replaces the ablated activations."""
    seeds: int = Field(default=1, ge=1)
    """Random sets of neurons; how much they differ is the noise that a top set is seen in, so
    that one alone tells nothing, and twenty tell much."""
    layer: float | None = Field(default=None, ge=0, le=1)
    """Relative depth; None is the best probe layer, chosen on other folds."""

    @field_validator("neurons")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        known = [kind for kind in ABLATION_KINDS if kind != SHAM]  # which is always run
        if value not in known:
            raise ValueError(unknown_name("kind", value, known))
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "AblationEntry":
        kind = ABLATION_KINDS[self.neurons]
        sizes = (self.count is not None) + (self.share is not None)
        if kind.sized and sizes != 1:
            raise ValueError(f"give either count or share of {kind.name} neurons")
        if not kind.sized and sizes:
            raise ValueError(f"{kind.name} takes neither count nor share")
        if not kind.repeated and self.seeds != 1:
            raise ValueError(f"{kind.name} takes no seeds: it would be the same each time")
        return self


class AblateConfig(Section):
    """Where and what is ablated."""

    enabled: bool = True
    """Run the ablation. It depends on the probes, so that other probes need another ablation:
    where `extraction_from` is set, the default is false."""
    items: int = Field(default=1000, ge=1)
    """Items per model, the same as for masking where the numbers agree."""
    conditions: tuple[AblationEntry, ...] = (
        AblationEntry(neurons="top", count=5),
        AblationEntry(neurons="matched", count=5, seeds=20),
        AblationEntry(neurons="random", share=0.5, seeds=5),
        AblationEntry(neurons="mlp"),
    )
    """Run in this order; a `top` one wants a `matched` or `random` one of its size beside it."""
    shards: int = Field(default=1, ge=1)
    """Shards per model: one file and one job per shard."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

    @model_validator(mode="after")
    def _distinct(self) -> "AblateConfig":
        names = [(condition.name, condition.seed) for condition in ablation_conditions(self)]
        doubled = sorted({name for name, seed in names if names.count((name, seed)) > 1})
        if doubled:
            raise ValueError(f"conditions given twice: {', '.join(doubled)}")
        return self

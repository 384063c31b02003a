"""Neuron ablation: does the answer hang on a few dimensions of the residual stream?"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.section import Section


class AblationCondition(Section):
    """One way to ablate; random ones are repeated for every seed."""

    neurons: Literal["top", "random", "mlp"]
    """`top`: the sparse probe's largest weights, fitted without the item's fold; `random`: drawn;
    `mlp`: the layer's whole MLP is bypassed."""
    count: int | None = Field(default=None, ge=1)
    """Neurons ablated."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Or their share of the width."""
    value: Literal["zero", "mean", "plus_100", "minus_100"] = "zero"
    """What stands in for them."""
    seeds: int = Field(default=1, ge=1)
    """Repeats of a random condition."""
    layer: float | None = Field(default=None, ge=0, le=1)
    """Relative depth; None is the best probe layer, chosen on other folds."""

    @model_validator(mode="after")
    def _one_size(self) -> "AblationCondition":
        sizes = (self.count is not None) + (self.share is not None)
        if sizes != (0 if self.neurons == "mlp" else 1):
            raise ValueError("give either count or share (neither for mlp)")
        if self.neurons != "random" and self.seeds != 1:
            raise ValueError("only random neurons take seeds")
        return self

    @property
    def name(self) -> str:
        """Short name used in tables, such as `top_5` or `random_50pct_mean`."""
        if self.neurons == "mlp":
            size = "bypass"
        elif self.count is not None:
            size = str(self.count)
        else:
            size = f"{100 * (self.share or 0):g}pct"
        parts = [self.neurons, size]
        if self.value != "zero":
            parts.append(self.value)
        if self.layer is not None:
            parts.append(f"depth{100 * self.layer:g}")
        return "_".join(parts)


class AblateConfig(Section):
    """Where and what is ablated."""

    enabled: bool = True
    """Run the ablation. It follows the probes, so that other probes cost it anew: where
    `extraction_from` is set, the default is false."""
    items: int = Field(default=1000, ge=1)
    """Items a model, the same as for masking where the numbers agree."""
    conditions: tuple[AblationCondition, ...] = (
        AblationCondition(neurons="top", count=5),
        AblationCondition(neurons="random", count=5, seeds=5),
        AblationCondition(neurons="random", share=0.5, seeds=5),
        AblationCondition(neurons="mlp"),
    )
    """Run in this order; a `top` one wants a `random` one of its size beside it."""
    shards: int = Field(default=1, ge=1)
    """Files, and so jobs, a model."""
    batch_size: int = Field(default=32, ge=1)
    """Items a forward."""

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, value: tuple[AblationCondition, ...]) -> tuple[AblationCondition, ...]:
        names = [condition.name for condition in value]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"given twice: {', '.join(doubled)}")
        return value

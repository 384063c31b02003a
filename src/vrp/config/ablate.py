"""Neuron ablation: does the answer depend on a few dimensions of the residual stream?"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from vrp.config.condition_entry import (
    ConditionEntry,
    require_distinct,
    require_repeatable,
)
from vrp.config.section import Section
from vrp.interventions.ablation import ABLATION_KINDS, ablation_conditions
from vrp.vlm.residual_edits import Site

Depth = Annotated[float, Field(ge=0, le=1)]
"""0: the first decoder layer, 1: the last."""


class AblationEntry(ConditionEntry):
    """One way to ablate, or several: one for every layer, head and dose, and for every seed."""

    KINDS: ClassVar = ABLATION_KINDS

    kind: str
    """`top`: the neurons that the probe depends on most, fitted without the item's fold; `matched`:
    random neurons of about the same size as the top ones; `random`: random neurons among all;
    `mlp`: the layer's whole MLP is bypassed; `head`: single attention heads are ablated; `steer`:
    the state at the prompt's last token and at the answer's tokens is moved along the linear
    probe's direction; `steer_random`: the state is moved as far in a random direction; or a kind
    that an extension registers."""
    count: int | None = Field(default=None, ge=1)
    """Number of neurons ablated."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of all neurons, instead of `count`."""
    site: Site = "residual"
    """Which neurons: `residual`: dimensions of the layer's output, ranked by the sparse probe's
    weights; `mlp`: hidden units of the layer's MLP, ranked by how far each moves the state along
    the linear probe's direction."""
    value: Literal["zero", "mean", "plus_100", "minus_100"] = "zero"
    """Value that replaces the ablated activations."""
    heads: tuple[int, ...] = ()
    """For `head`: the attention heads of the layer, numbered from 0."""
    doses: tuple[float, ...] = ()
    """For `steer` and `steer_random`: the distance in standard deviations along the probe's
    direction; positive is towards right answers."""
    seeds: int = Field(default=1, ge=1)
    """Number of random sets of neurons. The spread between the sets is the noise that the effect of
    the top neurons is compared with: one set cannot show it, twenty show it well."""
    layer: Depth | tuple[Depth, ...] | None = None
    """Relative depth of the layer, or a list of depths; null: the best probe layer, chosen on other
    folds."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "AblationEntry":
        kind = ABLATION_KINDS[self.kind]
        sizes = (self.count is not None) + (self.share is not None)
        if kind.sized and sizes != 1:
            raise ValueError(f"give either count or share of {kind.name} neurons")
        if not kind.sized and sizes:
            raise ValueError(f"{kind.name} takes neither count nor share")
        if not kind.sized and (self.site, self.value) != ("residual", "zero"):
            raise ValueError(f"{kind.name} takes neither site nor value: it replaces no neurons")
        for name, takes in (("heads", kind.of_heads), ("doses", kind.steers)):
            if takes != bool(getattr(self, name)):
                raise ValueError(f"{kind.name} {'needs' if takes else 'takes no'} {name}")
        if any(head < 0 for head in self.heads):
            raise ValueError(f"heads are numbered from 0: {list(self.heads)}")
        if self.layer == ():
            raise ValueError("layer: give a depth from 0 to 1, several, or null")
        if 0 in self.doses:
            raise ValueError("a dose of 0 moves nothing; leave it out")
        require_repeatable(kind.name, self.seeds, repeated=kind.repeated)
        return self


class AblateConfig(Section):
    """Ablation of neurons, heads and MLPs, and steering."""

    enabled: bool = True
    """Run the ablation. Its conditions depend on the study's own probes, so the default is false if
    `extraction_from` is set."""
    items: int = Field(default=1000, ge=1)
    """Items per model; the same items as for masking if the numbers are equal."""
    conditions: tuple[AblationEntry, ...] = (
        AblationEntry(kind="top", count=5),
        AblationEntry(kind="matched", count=5, seeds=20),
        AblationEntry(kind="random", share=0.5, seeds=5),
        AblationEntry(kind="mlp"),
    )
    """Run in this order. Each `top` condition needs a `matched` or `random` one of the same
    size."""
    shards: int = Field(default=1, ge=1)
    """Shards per model. Each shard is one job and one file."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

    @model_validator(mode="after")
    def _distinct(self) -> "AblateConfig":
        require_distinct(ablation_conditions(self))
        return self

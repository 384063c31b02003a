"""Patch masking: does the answer depend on the most attended image tokens?"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from vrp.config.condition_entry import (
    ConditionEntry,
    require_distinct,
    require_repeatable,
)
from vrp.config.section import Section
from vrp.interventions.masking import MASK_KINDS, mask_conditions

MaskMode = Literal["attention", "embedding", "pixels"]
Ranking = Literal["attention", "without_sinks", "times_values"]


class MaskEntry(ConditionEntry):
    """One condition: which image tokens are hidden, and how; random ones once for every seed."""

    KINDS: ClassVar = MASK_KINDS

    kind: str
    """`top`, `bottom`: the most and the least attended tokens; `random`: as many random tokens;
    `object`, `background`: the tokens on the object that the question asks for, and all others;
    `random_object`, `random_background`: as many random tokens; `no_image`: a blank image;
    `other_image`: the image of another item; or a kind that an extension registers."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the image tokens that is hidden; 1 hides all of them."""
    mode: MaskMode = "attention"
    """`attention`: no query but its own may attend to a hidden token, also while decoding;
    `embedding`: the mean image embedding of the study replaces it; `pixels`: its patch is painted
    grey."""
    ranking: Ranking = "attention"
    """How tokens are ranked: `attention`: by the item's attention map, mean over layers;
    `without_sinks`: the same, without the attention that sink tokens receive in the layers in which
    they are sinks; `times_values`: by the map of each layer times the norm of the tokens' values,
    mean over heads."""
    layers: tuple[int, int] | None = None
    """First and last of the decoder layers whose maps rank the tokens; null: all layers."""
    seeds: int = Field(default=1, ge=1)
    """Number of random draws, each of the same number of tokens."""
    items: int | None = Field(default=None, ge=1)
    """Items that the condition is run on, such as fewer for a dose curve; null: `mask.items`."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "MaskEntry":
        kind = MASK_KINDS[self.kind]
        if kind.sized != (self.share is not None):
            raise ValueError(f"{kind.name} {'needs a' if kind.sized else 'takes no'} share")
        if kind.shows != "own" and self.mode != "attention":
            raise ValueError(f"{kind.name} takes no mode: it shows another image")
        if not kind.ranked and (self.ranking != "attention" or self.layers is not None):
            raise ValueError(f"{kind.name} takes no ranking and no layers: it ranks no tokens")
        if self.kind == "bottom" and self.ranking == "without_sinks":
            raise ValueError(
                "bottom takes no such ranking: sinks would count as the least attended"
            )
        require_repeatable(kind.name, self.seeds, repeated=kind.repeated)
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError(
                f"layers: {list(self.layers)} is not a range; give the first and the last, from 0"
            )
        return self


class MaskConfig(Section):
    """Masking of image tokens."""

    enabled: bool = True
    """Run the masking; it needs `attention` in `extract.capture`."""
    items: int = Field(default=1000, ge=1)
    """Items per model, stratified by task; at most all items of the study."""
    conditions: tuple[MaskEntry, ...] = (
        MaskEntry(kind="top", share=0.3),
        MaskEntry(kind="random", share=0.3, seeds=5),
        MaskEntry(kind="bottom", share=0.3),
        MaskEntry(kind="no_image"),
        *(
            MaskEntry(kind=kind, share=share, items=300)
            for share in (0.1, 0.5, 0.9)
            for kind in ("top", "random")
        ),
    )
    """Run in this order. The first `top` condition is the study's headline. Each `top` condition
    needs a `random` one of the same share and mode."""
    shards: int = Field(default=1, ge=1)
    """Shards per model. Each shard is one job and one file."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

    @model_validator(mode="after")
    def _distinct(self) -> "MaskConfig":
        require_distinct(mask_conditions(self))
        return self

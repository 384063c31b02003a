"""Patch masking: does the answer depend on the most attended image tokens?"""

from typing import Literal

from pydantic import Field, field_validator

from vrp.config.section import Section
from vrp.errors import unknown_name
from vrp.interventions.masking import ALWAYS_RUN, MASK_KINDS

MaskMode = Literal["attention", "embedding", "pixels"]


class MaskConfig(Section):
    """Which image tokens are hidden, how, and the controls."""

    enabled: bool = True
    """Run the masking; it needs `attention` in `extract.capture`."""
    items: int = Field(default=1000, ge=1)
    """Items per model, stratified over tasks; fewer where the study has fewer."""
    mode: MaskMode = "attention"
    """`attention`: no query but its own may attend to a masked token, decode steps included;
    `embedding`: the study's mean image embedding replaces it; `pixels`: grey patches."""
    share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the image tokens that is masked."""
    random_seeds: int = Field(default=5, ge=1)
    """Random controls, each with as many tokens."""
    controls: tuple[str, ...] = ("bottom", "no_image")
    """Further conditions beside the most attended and the random ones: `bottom` (the least
    attended tokens), `no_image` (a blank image), `other_image` (another item's), or a kind that an
    extension registers; their order does not matter."""
    dose: tuple[float, ...] = (0.1, 0.5, 0.9)
    """Further shares for the dose curve, top and one random draw; empty for none."""
    dose_items: int = Field(default=300, ge=1)
    """Items of the dose curve."""
    shards: int = Field(default=1, ge=1)
    """Shards per model: one file and one job per shard."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

    @field_validator("controls")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = [kind for kind in MASK_KINDS if kind not in ALWAYS_RUN]
        for kind in value:
            if kind not in known:
                raise ValueError(unknown_name("control", kind, known))
        return tuple(kind for kind in known if kind in value)

    @field_validator("dose")
    @classmethod
    def _distinct_shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share < 1 for share in value):
            raise ValueError("every share lies between 0 and 1")
        if len(set(value)) != len(value):
            raise ValueError("a share is given twice")
        return value

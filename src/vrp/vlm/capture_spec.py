"""Which quantities extraction captures with the answer; without torch, for the planner too."""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_TOKENS = 64
"""Likeliest first answer tokens that are kept of a distribution; the others count as one."""


@dataclass(frozen=True)
class CaptureSpec:
    """Quantities captured in the pass that answers; those not listed cost nothing."""

    attention: bool = False
    """Head-mean rows of attention to the image tokens, every layer."""
    head_rows: bool = False
    """The same for each head."""
    hidden: tuple[str, ...] = ()
    """Positions whose residual stream is kept: prompt_end, answer_end."""
    lens: bool = False
    """Logit-lens margins of every layer."""
    contributions: bool = False
    """Contributions of embedding, attention, MLP and heads to the answer's logit difference."""
    residual_update: bool = False
    """Norm and residual update of the image tokens, every layer."""
    first_tokens: bool = False
    """Likeliest first answer tokens, as many as `FIRST_TOKENS`."""

    @property
    def reads_image_tokens(self) -> bool:
        """Whether anything is read of each image token."""
        return self.attention or self.head_rows or self.residual_update

    @classmethod
    def full(cls, hidden: tuple[str, ...] = ("prompt_end",)) -> "CaptureSpec":
        """Read everything."""
        return cls(
            attention=True,
            head_rows=True,
            hidden=hidden,
            lens=True,
            contributions=True,
            residual_update=True,
            first_tokens=True,
        )

    @classmethod
    def of(cls, names: Sequence[str], *, hidden: Sequence[str]) -> "CaptureSpec":
        """Read what `extract.capture` names, the residual stream at these positions and the first
        answer token's distribution, which costs nothing."""
        return cls(
            attention="attention" in names,
            head_rows="heads" in names,
            hidden=tuple(hidden),
            lens="lens" in names,
            contributions="contributions" in names,
            residual_update="residual_update" in names,
            first_tokens=True,
        )

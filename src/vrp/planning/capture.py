"""What a run reads beside the answers, as far as its cost goes."""

from dataclasses import dataclass
from typing import Protocol


class Capture(Protocol):
    """What is read; `vrp.vlm.decode.CaptureSpec` is one, and so is `CapturePlan`."""

    @property
    def attention(self) -> bool:
        """Head-mean rows of attention to the image tokens, every layer."""

    @property
    def head_rows(self) -> bool:
        """The same for each head."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """Positions whose residual stream is kept."""

    @property
    def lens(self) -> bool:
        """Logit-lens margins of every layer."""

    @property
    def contributions(self) -> bool:
        """Contributions of embedding, attention, MLP and heads."""

    @property
    def residual_update(self) -> bool:
        """Residual update of the image tokens, every layer."""


@dataclass(frozen=True)
class CapturePlan:
    """The same choice as `vrp.vlm.decode.CaptureSpec`, without torch."""

    attention: bool = False
    """Head-mean rows of attention to the image tokens, every layer."""
    head_rows: bool = False
    """The same for each head."""
    hidden: tuple[str, ...] = ()
    """Positions whose residual stream is kept."""
    lens: bool = False
    """Logit-lens margins of every layer."""
    contributions: bool = False
    """Contributions of embedding, attention, MLP and heads."""
    residual_update: bool = False
    """Residual update of the image tokens, every layer."""

    @classmethod
    def full(cls, hidden: tuple[str, ...] = ("prompt_end",)) -> "CapturePlan":
        """Everything, as extraction reads it."""
        return cls(True, True, hidden, True, True, True)

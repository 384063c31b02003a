"""Causal tracing: where the image enters the answer, and from which layer on it is settled."""

from pydantic import Field

from vrp.config.section import Section


class TraceConfig(Section):
    """Attention knockout by layer window, and patching by layer, at the prompt's last token."""

    enabled: bool = True
    """Run the tracing. In causal models a condition costs one token per item."""
    items: int = Field(default=1000, ge=1)
    """Items per model; the same items as for masking if the numbers are equal."""
    window: int | None = Field(default=None, ge=1)
    """Width of a knockout's window in layers; null: a fifth of the model's layers, at least one."""
    shards: int = Field(default=1, ge=1)
    """Shards per model. Each shard is one job and one file."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

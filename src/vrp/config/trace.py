"""Causal tracing: where the picture enters the answer, and from which layer on it is settled."""

from pydantic import Field

from vrp.config.section import Section


class TraceConfig(Section):
    """Attention knockout by layer window, and patching by layer, at the prompt's last token."""

    enabled: bool = True
    """Run the tracing. In causal models a condition costs one token an item."""
    items: int = Field(default=1000, ge=1)
    """Items per model, the same as for masking where the numbers agree."""
    window: int | None = Field(default=None, ge=1)
    """Layers of a knockout's window; null: a fifth of the model's, at least one."""
    shards: int = Field(default=1, ge=1)
    """Shards per model: one file and one job per shard."""
    batch_size: int = Field(default=32, ge=1)
    """Items per forward pass."""

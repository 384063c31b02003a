"""Self-consistency: how often a model gives the same answer again."""

from pydantic import Field

from vrp.config.section import Section


class ConsistencyConfig(Section):
    """K sampled answers per item (arXiv 2606.17389: K=10, T=0.7, top-p 0.9)."""

    k: int = Field(default=10, ge=2)
    """Samples per item."""
    temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature; logits are divided by it."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: tokens are drawn from the smallest set that has this much probability."""
    floor: float | None = Field(default=1e-3, gt=0, lt=1)
    """For the exact distribution over answers: prefixes of answers that are less probable than this
    are not followed; they widen the reported intervals. null: samples only."""
    batch_size: int = Field(default=32, ge=1)
    """Items per prefill; answers do not depend on it."""

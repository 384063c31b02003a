"""Signals and how well they tell right answers from wrong ones."""

from pydantic import Field, field_validator

from vrp.config.section import Section


class MetricsConfig(Section):
    """Signals and the statistics computed for them."""

    top_heads: tuple[int, ...] = (1, 5, 10, 20)
    """Numbers of top heads for which a joint R² is reported."""
    bootstrap: int = Field(default=1000, ge=100)
    """Number of bootstrap resamples, clustered by image."""
    r_margin: float = Field(default=0.1, gt=0, lt=1)
    """Equivalence margin of a correlation."""
    auroc_margin: float = Field(default=0.05, gt=0, lt=0.5)
    """Equivalence margin of an AUROC around 0.5."""

    @field_validator("top_heads")
    @classmethod
    def _counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("give at least one number of heads, each at least 1")
        return value

"""Paired effects of the interventions."""

from pydantic import Field

from vrp.config.section import Section


class EffectsConfig(Section):
    """Intervals, tests and the equivalence margin."""

    sign_flips: int = Field(default=10000, ge=100)
    """Number of random sign flips if there are too many to enumerate."""
    equivalence_pp: float = Field(default=2.0, gt=0, lt=100)
    """Equivalence margin in percentage points: a smaller effect counts as none."""

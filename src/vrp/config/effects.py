"""Paired effects of the interventions."""

from pydantic import Field

from vrp.config.section import Section


class EffectsConfig(Section):
    """Intervals, tests and the equivalence margin."""

    sign_flips: int = Field(default=10000, ge=100)
    """Random sign flips where all of them are too many."""
    equivalence_pp: float = Field(default=2.0, gt=0)
    """Margin in percentage points within which an effect counts as none."""

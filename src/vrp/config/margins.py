"""Equivalence margins: distances from no effect that still count as none."""

from typing import NamedTuple

from vrp.config.effects import EffectsConfig
from vrp.config.metrics import MetricsConfig


class EquivalenceMargins(NamedTuple):
    """The margins of a study's equivalence tests."""

    auroc: float = MetricsConfig().auroc_margin
    """Around 0.5, or around no difference of two AUROCs."""
    r: float = MetricsConfig().r_margin
    """Around a correlation of 0."""
    effect_pp: float = EffectsConfig().equivalence_pp
    """Around no effect on accuracy, percentage points."""

    @property
    def chance(self) -> tuple[float, float]:
        """Lowest and highest AUROC that count as chance."""
        return 0.5 - self.auroc, 0.5 + self.auroc

"""P(True): the model judges its own answer."""

from vrp.config.section import Section


class PTrueConfig(Section):
    """One more question to the model: is its answer correct? (Kadavath et al. 2022)"""

    enabled: bool = False
    """Ask the question. The embedded models were not trained to judge answers."""

"""P(True): the model judges its own answer."""

from vrp.config.section import Section


class PTrueConfig(Section):
    """One more question to the model: is its answer correct? (Kadavath et al. 2022)"""

    enabled: bool = False
    """Whether it is asked. The embedded models were not taught to judge an answer."""

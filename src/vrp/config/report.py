"""The report."""

from pydantic import Field

from vrp.config.section import Section


class ReportConfig(Section):
    """Contents of the report."""

    title: str = "Where can this model's reliability be read?"
    """Its heading."""
    overlays: int = Field(default=6, ge=0)
    """Attention overlays a model: right and wrong answers of every task."""

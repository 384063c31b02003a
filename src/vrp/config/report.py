"""The report."""

from pydantic import Field

from vrp.config.section import Section


class ReportConfig(Section):
    """Contents of the report."""

    title: str = "When can the answers be trusted?"
    """Title of the report."""
    overlays: int = Field(default=6, ge=0)
    """Attention overlays per model, of right and wrong answers of every task."""

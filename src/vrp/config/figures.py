"""Figures."""

from typing import Literal

from pydantic import Field

from vrp.config.section import Section


class FiguresConfig(Section):
    """Format of the figure files."""

    formats: tuple[Literal["svg", "png", "pdf"], ...] = ("svg", "png")
    """File types."""
    dpi: int = Field(default=150, ge=50)
    """Resolution of PNG files."""

"""The explorer of every answer."""

from pydantic import Field

from vrp.config.section import Section


class ExplorerConfig(Section):
    """A page that shows each answer of each model with all that was read of it."""

    enabled: bool = True
    """Whether it is made."""
    items_per_file: int = Field(default=128, ge=1)
    """Items whose attention, samples and interventions are in one file, which the page loads when
    one of them is looked at."""
    image_pixels: int = Field(default=224, ge=32)
    """Longer side of the images; smaller ones stay as they are."""

"""The explorer of every answer."""

from pydantic import Field

from vrp.config.section import Section


class ExplorerConfig(Section):
    """A page that shows every answer of every model with everything that was read for it."""

    enabled: bool = True
    """Write the page."""
    items_per_file: int = Field(default=128, ge=1)
    """Items per data file. The page loads a file (attention, samples, interventions) when one of
    its items is opened."""
    image_pixels: int = Field(default=224, ge=32)
    """Longer side of the images in pixels; smaller images are not enlarged."""

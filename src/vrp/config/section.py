"""What every section of the configuration has in common: unknown keys are refused."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of keys; an unknown key is an error, never ignored, and numbers are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def section_in(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, or holds a list or a mapping of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [section_in(inner) for inner in get_args(annotation)]
    return next((inner for inner in found if inner is not None), None)

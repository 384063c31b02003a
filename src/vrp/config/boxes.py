"""Boxes of the objects that questions ask for."""

from pathlib import PurePosixPath

from pydantic import field_validator

from vrp.config.folder import Place
from vrp.config.section import Section


class BoxesConfig(Section):
    """Bounding boxes of the objects that questions ask for."""

    instances: Place | None = None
    """Annotation file in COCO's format inside the data folder, such as
    `annotations/instances_val2014.json` of COCO's `annotations_trainval2014.zip`. The attention on
    the object that an existence question asks for is then compared with the object's area. null: no
    file; drawn scenes have boxes of their own."""

    @field_validator("instances")
    @classmethod
    def _is_inside(cls, value: str | None) -> str | None:
        if value is not None and (
            PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts
        ):
            raise ValueError(f"{value!r} must be a path inside the data folder")
        return value

"""What every section of the configuration has in common: unknown keys are refused."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _one_spelling(folder: str) -> str:
    return str(Path(folder).expanduser())


# A folder, `~` for the home folder: the workflow and the stages must spell it alike.
Folder = Annotated[str, AfterValidator(_one_spelling)]


class Section(BaseModel):
    """A frozen group of keys; an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

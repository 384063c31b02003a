"""The published dimensions of the checkpoints that the papers study.

Each file in `checkpoints/` holds, for one model id, those fields of its `config.json` and of its
image processor's that decide shapes; fields that the published file leaves to the model class's
defaults are written out.
"""

import difflib
import functools
import json
from importlib import resources
from typing import Any, NamedTuple

from vrp.errors import InputError


class PublishedCheckpoint(NamedTuple):
    """One checkpoint's dimensions."""

    name: str
    """Short name, such as `llava-1.5-7b`."""
    checkpoint: str
    """Model id on the hub: the source of the numbers."""
    same_dimensions: tuple[str, ...]
    """Other model ids with the same configuration."""
    family: str
    """Family in the registry."""
    config: dict[str, Any]
    """What matters of `config.json`."""
    image_processor: dict[str, Any]
    """What matters of `preprocessor_config.json`."""


def published_checkpoint(name: str) -> PublishedCheckpoint:
    """Return a checkpoint's dimensions by its short name or by a model id.

    Raises:
        InputError: its dimensions are not known; the nearest known name is suggested.
    """
    known = _all_published()
    if name in known:
        return known[name]
    for checkpoint in known.values():
        if name in (checkpoint.checkpoint, *checkpoint.same_dimensions):
            return checkpoint
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise InputError(
        f"the dimensions of checkpoint {name!r} are not known; did you mean {near[0]!r}? "
        f"(known: {', '.join(sorted(known))})"
    )


@functools.cache
def _all_published() -> dict[str, PublishedCheckpoint]:
    folder = resources.files("vrp.planning") / "checkpoints"
    found = {}
    for file in folder.iterdir():
        if not file.name.endswith(".json"):
            continue
        fields = json.loads(file.read_text(encoding="utf-8"))
        name = file.name.removesuffix(".json")
        found[name] = PublishedCheckpoint(
            name=name,
            checkpoint=fields["source"],
            same_dimensions=tuple(fields["same_dimensions"]),
            family=fields["family"],
            config=fields["config"],
            image_processor=fields["preprocessor_config"],
        )
    return found

"""Dimensions that ship with the project: of the papers' checkpoints and of the embedded models.

    python -m vrp.planning.published_dimensions  # measures them again, with other code

Each file in `checkpoints/` holds, for one checkpoint, its measured dimensions and, where it is
published elsewhere, what they are measured from: those fields of its `config.json` and of its image
processor's that decide shapes, and the tokens of its prompt's frame under its own tokenizer.
"""

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from vrp.errors import InputError
from vrp.vlm.dimensions import Dimensions
from vrp.zoo import ZOO_PREFIX, zoo_checkpoint


class PublishedCheckpoint(NamedTuple):
    """One checkpoint."""

    name: str
    """Short name, such as `llava-1.5-7b`."""
    checkpoint: str
    """Model id on the hub, or `zoo:<family>`."""
    family: str
    """Family in the registry."""
    config: dict[str, Any]
    """What matters of `config.json`; empty for an embedded model."""
    image_processor: dict[str, Any]
    """What matters of `preprocessor_config.json`; empty for an embedded model."""
    dimensions: Dimensions
    """As measured."""


def published_checkpoint(name: str) -> PublishedCheckpoint:
    """Return a checkpoint by its short name or by a model id.

    Raises:
        InputError: its dimensions are not known; the nearest known name is suggested.
    """
    known = shipped_files()
    for short, fields in known.items():
        if name in (short, fields.get("source"), *fields.get("same_dimensions", ())):
            return PublishedCheckpoint(
                name=short,
                checkpoint=fields["source"],
                family=fields["family"],
                config=fields.get("config", {}),
                image_processor=fields.get("preprocessor_config", {}),
                dimensions=Dimensions.from_json(fields["dimensions"]),
            )
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise InputError(
        f"the dimensions of checkpoint {name!r} are not known; did you mean {near[0]!r}? "
        f"(known: {', '.join(sorted(known))})"
    )


@functools.cache
def shipped_files() -> dict[str, dict[str, Any]]:
    """Return the content of every file, by the checkpoint's short name."""
    folder = resources.files("vrp.planning") / "checkpoints"
    return {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".json")
    }


def measure_published(fields: Mapping[str, Any]) -> Dimensions:
    """Measure the dimensions of a checkpoint from the fields of its file; this loads torch.

    Raises:
        InputError: it cannot be measured.
    """
    from vrp.vlm.measuring import measure_folder

    if fields["source"].startswith(ZOO_PREFIX):
        return measure_folder(zoo_checkpoint(fields["source"]), fields["family"])
    with TemporaryDirectory() as folder:
        for part in ("config", "preprocessor_config"):
            Path(folder, f"{part}.json").write_text(json.dumps(fields[part]), encoding="utf-8")
        measured = measure_folder(Path(folder), fields["family"])
    return replace(measured, n_frame_tokens=fields["n_frame_tokens"])


def _main() -> None:
    for name, fields in shipped_files().items():
        fields["dimensions"] = measure_published(fields).as_json()
        path = Path(__file__).parent / "checkpoints" / f"{name}.json"
        path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _main()

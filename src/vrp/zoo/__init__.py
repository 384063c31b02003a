"""The embedded tiny vision-language models; importing this loads no model library."""

from pathlib import Path

from vrp.errors import InputError

ZOO_PREFIX = "zoo:"
"""What the checkpoint of an embedded model begins with, in place of a hub id or a folder."""
ZOO_FAMILIES = ("llava", "paligemma", "qwen2_vl")


def zoo_checkpoint(name: str) -> Path:
    """Return the folder of an embedded model, by family ("llava") or checkpoint ("zoo:llava").

    Raises:
        InputError: no such model, or its weights are not installed.
    """
    family = name.removeprefix(ZOO_PREFIX)
    if family not in ZOO_FAMILIES:
        raise InputError(
            f"there is no embedded model {name!r}; give one of "
            + ", ".join(f"{ZOO_PREFIX}{known}" for known in ZOO_FAMILIES)
        )
    folder = Path(__file__).parent / "weights" / family
    if not (folder / "model.safetensors").is_file():
        raise InputError(
            f"{folder}: the weights of {name!r} are missing; reinstall the package or run "
            f"`vrp zoo train --family {family}`"
        )
    return folder

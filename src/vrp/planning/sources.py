"""Where a model's dimensions come from, without a network and without its weights."""

import os
from functools import cache
from pathlib import Path

from vrp.config.models import ModelConfig
from vrp.errors import InputError
from vrp.planning.architecture import Architecture, read_architecture, read_checkpoint_folder
from vrp.planning.published import published_checkpoint
from vrp.zoo import zoo_checkpoint

ZOO_PREFIX = "zoo:"


@cache
def architecture_of(model: ModelConfig) -> Architecture:
    """Return the dimensions of a model of the study, with its pixel bounds.

    They are read from the embedded model's or the folder's `config.json`, from the published
    dimensions that the project knows, or from the hub's cache.

    Raises:
        InputError: none of them has it, or it cannot be read.
    """
    architecture = _unbounded(model)
    return architecture.with_pixel_bounds(min_pixels=model.min_pixels, max_pixels=model.max_pixels)


def _unbounded(model: ModelConfig) -> Architecture:
    if model.checkpoint.startswith(ZOO_PREFIX):
        return read_checkpoint_folder(zoo_checkpoint(model.checkpoint))
    folder = Path(model.checkpoint).expanduser()
    if folder.is_dir():
        return read_checkpoint_folder(folder)
    try:
        published = published_checkpoint(model.checkpoint)
    except InputError:
        cached = cached_folder(model)
        if cached is None:
            raise InputError(
                f"the dimensions of checkpoint {model.checkpoint} are not known: it is neither "
                "published with this project nor in the hub's cache; run `vrp fetch` first"
            ) from None
        return read_checkpoint_folder(cached)
    return read_architecture(published.config, published.image_processor)


def cached_folder(model: ModelConfig) -> Path | None:
    """Return the snapshot of a hub checkpoint in the hub's cache; None where it is not there."""
    repository = hub_cache() / f"models--{model.checkpoint.replace('/', '--')}"
    revision = model.revision or "main"
    named = repository / "refs" / revision
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    folder = repository / "snapshots" / commit
    return folder if (folder / "config.json").is_file() else None


def hub_cache() -> Path:
    """Return the hub's cache, as huggingface_hub finds it; importing that takes too long here."""
    if place := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(place).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    return Path(home).expanduser() / "hub"


def is_embedded(model: ModelConfig) -> bool:
    """Whether the model is one of the embedded tiny ones."""
    return model.checkpoint.startswith(ZOO_PREFIX)


def wants_gpu(model: ModelConfig) -> bool:
    """Whether the model is meant for a GPU: said so, or too large for anything else."""
    if model.device == "cpu":
        return False
    return model.device.startswith("cuda") or model.device_map is not None or not is_embedded(model)

"""Where a model's dimensions come from, without a network and without its weights."""

import json
import os
from functools import cache
from pathlib import Path

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.planning.published_dimensions import published_checkpoint
from vrp.study.graph import MANIFEST
from vrp.study.sharing import other_folder
from vrp.vlm.dimensions import Dimensions
from vrp.vlm.family_names import check_family, check_model_type
from vrp.zoo import ZOO_PREFIX

# Of models whose manifest was read, or that were measured here.
_KNOWN: dict[ModelConfig, Dimensions] = {}


def check_families(study: StudyConfig) -> None:
    """Refuse a family that there is not, or that a checkpoint on this machine is not of.

    Raises:
        InputError: naming the model and the family that fits.
    """
    for name, model in study.models.items():
        try:
            check_family(model.family)
        except InputError as error:
            raise InputError(f"models.{name}: {error}") from None
        model_type = _model_type(model)
        if model_type is not None:
            where = f"models.{name}: checkpoint {model.checkpoint}"
            check_model_type(model.family, model_type, where=where)


def _model_type(model: ModelConfig) -> str | None:
    """Return the model type of a checkpoint; None where it is not on this machine."""
    if is_embedded(model):
        return model.checkpoint.removeprefix(ZOO_PREFIX)
    folder = Path(model.checkpoint)
    if not folder.is_dir():
        found = cached_folder(model)
        if found is None:
            return None
        folder = found
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # what fetches it says what is wrong


def dimensions_of(model: ModelConfig) -> Dimensions:
    """Return the dimensions of a model of the study, with its pixel bounds.

    They are those of its manifest, those measured here, or those that ship with the project.

    Raises:
        InputError: there are none, or they do not go with the pixel bounds.
    """
    found = _KNOWN.get(model) or _published(model.checkpoint)
    if found is None:
        raise InputError(
            f"the dimensions of checkpoint {model.checkpoint} are not known: it is neither "
            "published with this project nor on this machine; run `vrp fetch`, or for a plan "
            f"`hf download {model.checkpoint} --include '*.json'`"
        )
    return found.with_pixel_bounds(min_pixels=model.min_pixels, max_pixels=model.max_pixels)


def read_manifests(study: StudyConfig, results: Path | None = None) -> None:
    """Take up what manifests say of a study's models that are not known yet.

    Args:
        study: the configuration.
        results: its folder, where it is not the usual one.
    """
    folders = [Path(study.results, study.study) if results is None else results]
    if study.extraction_from is not None:
        folders.append(other_folder(study))
    for name, model in study.models.items():
        for folder in folders:
            if model in _KNOWN:
                break
            try:
                path = folder / MANIFEST.path.replace("{model}", name)
                manifest = json.loads(path.read_text(encoding="utf-8"))
                if (manifest["family"], manifest["checkpoint"]) == (model.family, model.checkpoint):
                    _KNOWN[model] = Dimensions.from_json(manifest["dimensions"])
            except (OSError, ValueError, KeyError, TypeError, InputError):
                continue  # not there yet, or without dimensions: what needs them says so


def measure_where_unknown(model: ModelConfig) -> None:
    """Measure a model that is on this machine and not known yet; this loads torch.

    Raises:
        InputError: it cannot be measured.
    """
    if model in _KNOWN or _published(model.checkpoint):
        return
    folder = Path(model.checkpoint)
    found = folder if folder.is_dir() else cached_folder(model)
    if found is not None:
        _KNOWN[model] = measured(model, found)


def measured(model: ModelConfig, folder: Path) -> Dimensions:
    """Return the dimensions of a model whose checkpoint is in a folder; most are measured there.

    Raises:
        InputError: they cannot be measured.
    """
    published = _published(model.checkpoint)
    if published is not None:
        return published
    from vrp.vlm.measuring import measure_folder

    return measure_folder(folder, model.family)


@cache
def _published(checkpoint: str) -> Dimensions | None:
    try:
        return published_checkpoint(checkpoint).dimensions
    except InputError:
        return None


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

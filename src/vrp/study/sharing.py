"""One study that reads another's extraction: refused unless it would have made the very same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vrp.config.study import StudyConfig, stage_config
from vrp.errors import InputError
from vrp.study.provenance import code_digest, digest

TABLES = {
    "extract": ("answers", "attention", "hidden", "lens"),
    "blind": ("blind/answers", "blind/hidden"),
    "consistency": ("consistency",),
}
"""Stages whose shards are shared → their tables; the masking may be, too (`mask_folder`)."""
_KEY = "extraction_from"


def extraction_folder(study: StudyConfig) -> Path:
    """Where the shards of a study's extraction lie: its own folder, or the other study's."""
    if study.extraction_from is None:
        return Path(study.results, study.study)
    if "/" in study.extraction_from:
        return Path(study.extraction_from)
    return Path(study.results, study.extraction_from)


def mask_folder(study: StudyConfig, *, directory: Path = Path()) -> Path:
    """Where the mask shards of a study lie: its own folder, or that of the other study.

    The masking does not look at the probes. Where the other study's is whole, later than its
    extraction, and made with the same keys and code, own jobs would make the very same; where it
    is not, or where own ones have begun, they are the study's own, which is no error.

    Args:
        study: the configuration.
        directory: what relative paths are relative to; the result is relative to it, too.
    """
    own, other = Path(study.results, study.study), extraction_folder(study)
    if own == other or not study.mask.enabled:
        return own
    if any((directory / own / model / "mask").is_dir() for model in study.models):
        return own
    same = all(_masked_the_same(study, directory / other, model) for model in study.models)
    return other if same else own


def masks_itself(study: StudyConfig, *, directory: Path = Path()) -> bool:
    """Whether the masking of a study, where it is enabled, is its own."""
    return mask_folder(study, directory=directory) == Path(study.results, study.study)


def _masked_the_same(study: StudyConfig, folder: Path, model: str) -> bool:
    try:
        revision = _revision(folder / "models" / f"{model}.json")
        for path in dict.fromkeys(_shards(folder / model / "mask", study.mask.shards)):
            _check_shard(study, folder, path, "mask", model, revision)
        return _is_later(folder / model, study.mask.shards, study.extract.shards)
    except (InputError, OSError):
        return False


def _is_later(folder: Path, n_mask: int, n_extract: int) -> bool:
    """Whether the mask shards were written after the shards that they follow from."""
    read = [
        folder / table / f"{shard:03d}.parquet"
        for table in ("answers", "attention")
        for shard in range(n_extract)
    ]
    written = [folder / "mask" / f"{shard:03d}.parquet" for shard in range(n_mask)]
    newest = max(path.stat().st_mtime_ns for path in read)
    return all(path.stat().st_mtime_ns >= newest for path in written)


def check_shared_extraction(study: StudyConfig) -> None:
    """Find out before anything runs whether the other study's shards can stand for own ones.

    Looks at every shard's existence and at the first and last one's provenance; that all of them
    are of one piece, and the items equal, is found by the stage `gather`.

    Raises:
        InputError: a shard is missing, or was made by another model, code or configuration; one
            line says what differs.
    """
    folder = extraction_folder(study)
    if folder == Path(study.results, study.study):
        raise InputError(f"{_KEY} names this very study; remove the key")
    if not folder.is_dir():
        raise InputError(f"{_KEY}: {folder} does not exist; give a study under {study.results}")
    _check_items(study, folder)
    for model in study.models:
        revision = _revision(folder / "models" / f"{model}.json")
        for stage, tables in TABLES.items():
            if stage == "blind" and not study.extract.blind:
                continue
            for table in tables:
                first, last = _shards(folder / model / table, study.extract.shards)
                for path in dict.fromkeys((first, last)):
                    _check_shard(study, folder, path, stage, model, revision)


def _shards(folder: Path, n_shards: int) -> tuple[Path, Path]:
    """The first and the last shard of a table, all of which are there."""
    paths = [folder / f"{shard:03d}.parquet" for shard in range(n_shards)]
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for path in paths:
        if path.name not in there:
            raise InputError(
                f"{_KEY}: {path} does not exist; run that study's extraction to its end, with "
                f"extract.shards: {n_shards}, or remove the key"
            )
    return paths[0], paths[-1]


def _check_shard(
    study: StudyConfig, folder: Path, path: Path, stage: str, model: str, revision: str
) -> None:
    from vrp.tables.files import read_provenance  # seconds, which planning another study spares

    origin = read_provenance(path)
    wanted = stage_config(study, stage, model)
    if origin.get("config") != digest(wanted):
        raise InputError(
            f"{_KEY}: {path} was made with another configuration"
            f"{_difference(folder, stage, model, wanted)}; make them equal or remove the key"
        )
    if origin.get("code") != code_digest(f"vrp.stages.{stage}"):
        raise InputError(
            f"{_KEY}: {path} was made by other code of the stage {stage}; rerun that study with "
            "this version, or remove the key"
        )
    for key, expected in (("model", model), ("revision", revision)):
        if origin.get(key) != expected:
            raise InputError(
                f"{_KEY}: {path} was made with {key} {origin.get(key)!r}, not {expected!r}; "
                "rerun that study or remove the key"
            )


def _revision(manifest: Path) -> str:
    """What names the weights in that study's tables."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return str(content["revision"] or content["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{_KEY}: {manifest} is no model's manifest; run that study's extraction to its end, "
            "or remove the key"
        ) from None


def _check_items(study: StudyConfig, folder: Path) -> None:
    """Refuse other items as soon as the keys that they are sampled by tell."""
    wanted = stage_config(study, "sample")
    for key, here, there in _differences(folder, "sample", None, wanted):
        if key != "study":
            raise InputError(
                f"{_KEY}: {folder} has other items: {key} is {there!r} there, {here!r} here; "
                "make them equal or remove the key"
            )


def _difference(folder: Path, stage: str, model: str, wanted: dict[str, Any]) -> str:
    """The first key that differs, as a remark; empty where that study's snapshot does not tell."""
    for key, here, there in _differences(folder, stage, model, wanted):
        return f": {key.replace('*', model, 1)} is {there!r} there, {here!r} here"
    return ""


def _differences(
    folder: Path, stage: str, model: str | None, wanted: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    try:
        raw = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        found = stage_config(StudyConfig.model_validate(raw), stage, model)
    except (OSError, ValueError, KeyError, yaml.YAMLError):
        return  # the shards' own provenance decides
    for key in sorted({*wanted, *found}):
        if wanted.get(key) != found.get(key):
            yield key, wanted.get(key), found.get(key)

"""One study that takes another's shards, stage by stage, where own ones would be the very same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.declarations import Artifact, Stage
from vrp.study.digests import (
    by_module,
    changed_definitions,
    code_digest,
    in_words,
    job_definitions,
)
from vrp.study.graph import ITEMS, MADE_BY, MANIFEST, STAGE, STAGES
from vrp.study.keys import stage_config, value_of
from vrp.study.provenance import digest
from vrp.study.snakemake_records import recorded_params
from vrp.tables.seal import read_provenance

_KEY = "extraction_from"


class SharedStages(NamedTuple):
    """Stages whose shards a study takes from another one."""

    folders: dict[str, Path]
    """By stage: the other study's folder."""
    own: dict[str, str]
    """Shareable stages that the study runs itself although `extraction_from` is set → why."""


def shared_stages(
    study: StudyConfig, *, directory: Path = Path(), ahead: bool = False
) -> SharedStages:
    """Return whose shards stand for own ones.

    The extraction's must; of the other shareable stages, those that the other study has made with
    the same keys, code and model. A stage whose own shards have begun stays the study's own.
    Looked at are every shard's existence and the first and last one's provenance; that all of
    them belong together, and that the items are equal, is found by the stage `gather`.

    Args:
        study: the configuration.
        directory: what relative paths are relative to; the folders are relative to it, too.
        ahead: the other study may yet have to be made: nothing is refused, and what it cannot
            show now counts as shared.

    Raises:
        InputError: the extraction cannot be shared; one line says what differs.
    """
    if study.extraction_from is None:
        return SharedStages({}, {})
    folder = other_folder(study)
    if folder == Path(study.results, study.study):
        raise InputError(f"{_KEY} names this very study; remove the key")
    there = directory / folder
    if not ahead:
        if not there.is_dir():
            raise InputError(f"{_KEY}: {folder} does not exist; give a study under {study.results}")
        _require_same_items(study, there)
        _require_same(study, STAGE["extract"], there)
    shared, own = {"fetch_model": folder, "extract": folder}, {}
    for stage in STAGES:
        if stage.name in shared or not (stage.shareable and stage.enabled(study)):
            continue
        reason = _why_own(study, stage, there, directory, ahead)
        if reason:
            own[stage.name] = reason
        else:
            shared[stage.name] = folder
    return SharedStages(shared, own)


def _why_own(study: StudyConfig, stage: Stage, there: Path, directory: Path, ahead: bool) -> str:
    """Why a stage is the study's own; empty: it is shared."""
    if wanted := [name for name, reads in stage.reads_if.items() if reads(study)]:
        return f"it reads {' and '.join(wanted)}, which are this study's own"
    results = directory / study.results / study.study
    if any(_folder(results, stage.writes[0], model).is_dir() for model in study.models):
        return "its own jobs have begun"
    # Variants of a study differ in their interventions.
    if ahead and not stage.is_intervention and not _has_any(study, stage, there):
        return "" if _may_make(stage, there) else "that study does not run it"
    try:
        _require_same(study, stage, there)
    except (InputError, OSError) as error:
        return str(error).removeprefix(f"{_KEY}: ")
    return ""


def _may_make(stage: Stage, there: Path) -> bool:
    """Whether a study runs a stage, as its snapshot says; one without a snapshot may."""
    try:
        raw = yaml.safe_load((there / "config.yaml").read_text(encoding="utf-8"))
        return stage.enabled(StudyConfig.model_validate(raw))
    except (OSError, ValueError, yaml.YAMLError):
        return True


def other_folder(study: StudyConfig) -> Path:
    """Return the folder of the study that `extraction_from` names."""
    named = str(study.extraction_from)
    return Path(named) if "/" in named else Path(study.results, named)


def _has_any(study: StudyConfig, stage: Stage, results: Path) -> bool:
    return any(
        any(_folder(results, table, model).glob("*.parquet"))
        or any(_folder(results, table, model).glob(".*.batches"))
        for model in study.models
        for table in stage.writes
    )


def _folder(results: Path, table: Artifact, model: str) -> Path:
    return (results / table.path.replace("{model}", model)).parent


def _require_same(study: StudyConfig, stage: Stage, folder: Path) -> None:
    """Refuse shards of a stage that own jobs would not make just so."""
    for model in study.models:
        revision = _revision(folder / MANIFEST.path.replace("{model}", model))
        for table in stage.writes:
            paths = _existing_shards(study, stage, _folder(folder, table, model))
            for path in dict.fromkeys((paths[0], paths[-1])):
                _require_same_shard(study, folder, path, stage, model, revision)
            for read in stage.reads:
                if MADE_BY[read].per == "shard":
                    older = _existing_shards(study, MADE_BY[read], _folder(folder, read, model))
                    _require_later(paths, older)


def _existing_shards(study: StudyConfig, stage: Stage, folder: Path) -> list[Path]:
    n_shards = int(value_of(study, stage.shards_key))
    paths = [folder / f"{shard:03d}.parquet" for shard in range(n_shards)]
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for path in paths:
        if path.name not in there:
            raise InputError(
                f"{_KEY}: {path} does not exist; run that study's {stage.name} to its end, with "
                f"{stage.shards_key}: {n_shards}, or remove the key"
            )
    return paths


def _require_later(written: list[Path], read: list[Path]) -> None:
    """Refuse shards that are older than the ones that they follow from."""
    newest = max(path.stat().st_mtime_ns for path in read)
    for path in written:
        if path.stat().st_mtime_ns < newest:
            raise InputError(
                f"{_KEY}: {path} is older than what it was made from; rerun that study"
            )


def _require_same_shard(
    study: StudyConfig, folder: Path, path: Path, stage: Stage, model: str, revision: str
) -> None:
    origin = read_provenance(path)
    if origin.get("config") != digest(stage_config(study, stage, model)):
        _, differing = next(_differences(study, folder, stage, model), ("", ""))
        raise InputError(
            f"{_KEY}: {path} was made with another configuration"
            f"{differing and f': {differing}'}; make them equal or remove the key"
        )
    if origin.get("code") != code_digest(study, stage.name, model):
        now = [repr(by_module(job_definitions(study, stage.name, model)))]
        changed = in_words(changed_definitions(recorded_params(path, Path()), now))
        raise InputError(
            f"{_KEY}: {path} was made by other code of the stage {stage.name}"
            f"{changed and f': {changed}'}; rerun that study with this version, or remove the key"
        )
    for key, expected in (("model", model), ("revision", revision)):
        if origin.get(key) != expected:
            raise InputError(
                f"{_KEY}: {path} was made with {key} {origin.get(key)!r}, not {expected!r}; "
                "rerun that study or remove the key"
            )


def _revision(manifest: Path) -> str:
    """Return what names the weights in that study's tables."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return str(content["revision"] or content["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{_KEY}: {manifest} is not a model manifest; run that study's extraction to its end, "
            "or remove the key"
        ) from None


def _require_same_items(study: StudyConfig, folder: Path) -> None:
    """Refuse other items as soon as the keys that they are sampled by tell."""
    for key, difference in _differences(study, folder, MADE_BY[ITEMS]):
        if key != "study":
            raise InputError(
                f"{_KEY}: {folder} has other items: {difference}; make them equal or remove the key"
            )


def _differences(
    study: StudyConfig, folder: Path, stage: Stage, model: str | None = None
) -> Iterator[tuple[str, str]]:
    """Keys with other values in that study, each with the difference in words.

    None where that study's snapshot does not tell.
    """
    wanted = stage_config(study, stage, model)
    try:
        raw = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        found = stage_config(StudyConfig.model_validate(raw), stage, model)
    except (OSError, ValueError, KeyError, yaml.YAMLError):
        return  # the shards' own provenance decides
    for key in sorted({*wanted, *found}):
        here, there = wanted.get(key), found.get(key)
        if here != there:
            name = key.replace("*", model or "", 1)
            yield key, f"{name} is {there!r} there, {here!r} here"

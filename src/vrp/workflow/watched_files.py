"""Files of the user's that manifests follow: checkpoints and questions on this machine.

Snakemake compares times; a manifest states the digest of every file. A file whose content is still
the one stated is marked `ancient`: its time does not count.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from snakemake.io import ancient

from vrp.config.study import StudyConfig
from vrp.data.file_digest import file_sha256
from vrp.data.object_boxes import instances_path
from vrp.errors import InputError
from vrp.study.graph import DATA, MANIFEST
from vrp.tables.sealed_json import read_sealed_json
from vrp.vlm.checkpoint_files import files_of
from vrp.zoo import ZOO_PREFIX, zoo_checkpoint

_sha256 = functools.cache(file_sha256)

Watched = tuple[Path, Path, list[str]]
"""A manifest, the folder of the files that it states, and their names there."""


def checkpoint_files(study: StudyConfig, model: str) -> list[str]:
    """Return the files of a model's checkpoint; none where it is on the hub or embedded.

    An embedded one is part of the package, wherever that is: it counts by its content alone.
    """
    if study.models[model].checkpoint.startswith(ZOO_PREFIX):
        return []
    return mark_unchanged_ancient(*watched_checkpoint(study, model))


def embedded_digest(study: StudyConfig, model: str) -> str:
    """Return a digest of an embedded checkpoint's files; empty where it is none."""
    if not study.models[model].checkpoint.startswith(ZOO_PREFIX):
        return ""
    _, folder, names = watched_checkpoint(study, model)
    return hashlib.sha256("".join(_sha256(folder / name) for name in names).encode()).hexdigest()


def instances_digest(study: StudyConfig) -> str:
    """Return a digest of the annotation file that the user brought; empty where there is none."""
    if study.boxes.instances is None:
        return ""
    path = instances_path(study.data.folder, study.data.origin, study.boxes.instances)
    return _sha256(path) if path is not None and path.is_file() else ""


def question_files(study: StudyConfig) -> list[str]:
    """Return the question files that the user brought; none where the study makes its own."""
    return mark_unchanged_ancient(*watched_questions(study))


def watched_checkpoint(study: StudyConfig, model: str) -> Watched:
    """Return the files of a checkpoint on this machine; none where it is on the hub."""
    checkpoint = study.models[model].checkpoint
    manifest = Path(study.results, study.study, MANIFEST.path.replace("{model}", model))
    try:
        folder = (
            zoo_checkpoint(checkpoint) if checkpoint.startswith(ZOO_PREFIX) else Path(checkpoint)
        )
    except InputError:
        return manifest, Path(), []  # fetch_model reports what is missing
    try:
        names = files_of(folder, where=str(folder))
    except (InputError, OSError):
        names = []  # likewise
    # Snakemake reads braces as wildcards; no file that is loaded has any.
    return manifest, folder, [name for name in names if not set("{}") & set(name)]


def watched_questions(study: StudyConfig) -> Watched:
    """Return the question files that the user brought; none where the study makes its own."""
    folder = Path(study.data.folder)
    manifest = Path(study.results, study.study, DATA.path)
    if study.data.origin != "local":
        return manifest, folder, []
    names = study.data.question_files((one.dataset, one.split) for one in study.sample.splits)
    return manifest, folder, [name for name in names if (folder / name).is_file()]


def changed_files(manifest: Path, folder: Path, names: Iterable[str]) -> list[str] | None:
    """Return the names of files whose content is not the one that a manifest states.

    Files that it does not list count as changed. Of the others only those are digested that have
    been written, or put there, since the manifest was; a time that was set back does not hide it.

    Args:
        manifest: JSON file with the SHA-256 of each file under `files`.
        folder: where the files are.
        names: of the files, within the folder.

    Returns:
        The names; None where there is no manifest.
    """
    try:
        stated: dict[str, Any] = read_sealed_json(manifest, made_by="")["files"]
        written = manifest.stat().st_mtime
    except (InputError, KeyError):
        return None
    changed = []
    for name in names:
        path = folder / name
        times = [
            time for one in (path.stat(), path.lstat()) for time in (one.st_mtime, one.st_ctime)
        ]
        if name not in stated or (max(times) > written and stated[name] != _sha256(path)):
            changed.append(name)
    return changed


def mark_unchanged_ancient(manifest: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Return the paths of files, `ancient` those whose content a manifest still states.

    Args:
        manifest: JSON file with the SHA-256 of each file under `files`.
        folder: where the files are.
        names: of the files, within the folder.
    """
    changed = changed_files(manifest, folder, names)
    counts = set(names if changed is None else changed)
    return [str(folder / name) if name in counts else ancient(str(folder / name)) for name in names]

"""Files of the user's that manifests follow: checkpoints and questions on this machine.

Snakemake compares times; a manifest states the digest of every file. A file whose content is still
the one stated is marked `ancient`: its time does not count.
"""

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from snakemake.io import ancient

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.zoo import ZOO_PREFIX, zoo_checkpoint


def checkpoint_files(study: StudyConfig, model: str) -> list[str]:
    """Return the files of a model's checkpoint; none where it is on the hub."""
    checkpoint = study.models[model].checkpoint
    try:
        folder = (
            zoo_checkpoint(checkpoint) if checkpoint.startswith(ZOO_PREFIX) else Path(checkpoint)
        )
    except InputError:
        return []  # fetch_model reports what is missing
    names = sorted(path.name for path in folder.glob("*.*") if path.suffix != ".md")
    manifest = Path(study.results, study.study, "models", f"{model}.json")
    return mark_unchanged_ancient(manifest, folder, names)


def question_files(study: StudyConfig) -> list[str]:
    """Return the question files that the user brought; none where the study makes its own."""
    if study.data.origin != "local":
        return []
    folder = Path(study.data.folder)
    names = study.data.question_files((one.dataset, one.split) for one in study.sample.splits)
    found = [name for name in names if (folder / name).is_file()]
    return mark_unchanged_ancient(Path(study.results, study.study, "data.json"), folder, found)


def mark_unchanged_ancient(manifest: Path, folder: Path, names: Iterable[str]) -> list[str]:
    """Return the paths of files, `ancient` those whose content the manifest still states.

    So are those that it does not list: they are not loaded. Only files that are newer than the
    manifest are digested.

    Args:
        manifest: JSON file with the SHA-256 of each file under `files`.
        folder: where the files are.
        names: of the files, within the folder.
    """
    try:
        stated = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        written = manifest.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return [str(folder / name) for name in names]

    def is_unchanged(name: str) -> bool:
        if name not in stated:
            return True
        path = folder / name
        changed = max(path.stat().st_mtime, path.lstat().st_mtime)
        return bool(changed > written and stated[name] == _sha256(path))

    paths = {name: str(folder / name) for name in names}
    return [ancient(path) if is_unchanged(name) else path for name, path in paths.items()]


@functools.cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Which checkpoint a model is: found, digested, and written down in a manifest (JSON)."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vrp.config.models import ModelConfig
from vrp.data.file_digest import file_sha256
from vrp.errors import InputError
from vrp.study.provenance import STATED
from vrp.tables.sealed_json import read_sealed_json, write_sealed_json
from vrp.vlm.checkpoint_files import INDEX, files_of, read_index, shards_of
from vrp.zoo import ZOO_PREFIX, zoo_checkpoint


class Manifest(NamedTuple):
    """What exactly a model of the study is."""

    family: str
    """Family, as in the config."""
    checkpoint: str
    """Hub id, folder or `zoo:<family>`, as in the config."""
    revision: str | None
    """Commit of a hub checkpoint; None: a folder, known by its digest."""
    files: dict[str, str]
    """File name → SHA-256."""
    digest: str
    """SHA-256 over `files`."""
    dimensions: dict[str, Any] | None = None
    """As `vrp.vlm.dimensions.Dimensions.as_json`; None: they could not be measured."""
    unread: Sequence[str] = ()
    """Buffers in its files that are computed and not read from there."""
    made_by: Mapping[str, str] = MappingProxyType({})
    """Provenance of the manifest itself."""

    @property
    def identity(self) -> str:
        """What names the weights in every table: the commit, or else the digest."""
        return self.revision or self.digest


def local_folder(checkpoint: str) -> Path | None:
    """Return the folder of a checkpoint on disk; None for one on the hub.

    Raises:
        InputError: an unknown embedded model, or a path that is no folder.
    """
    if checkpoint.startswith(ZOO_PREFIX):
        return zoo_checkpoint(checkpoint)
    path = Path(checkpoint)
    if path.is_dir():
        return path
    if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1:
        raise InputError(f"checkpoint folder {checkpoint} does not exist; give a folder or hub id")
    return None


def describe_folder(model: ModelConfig, folder: Path, *, revision: str | None) -> Manifest:
    """Digest every file of a checkpoint's folder that is loaded.

    Raises:
        InputError: the folder holds no safetensors weights or no configuration, or lacks one of
            the files that the weights are cut into.
    """
    names = files_of(folder, where=f"checkpoint {folder}")
    files = {name: file_sha256(folder / name) for name in names}
    return Manifest(model.family, model.checkpoint, revision, files, _digest(files))


def check_weights(folder: Path, names: Collection[str], *, where: str) -> None:
    """Check that every safetensors file is as long as its header says and holds its tensors.

    Raises:
        InputError: naming the file that is cut short or lacks a tensor.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, set[str]] = {}
    for name in names:
        if not name.endswith(".safetensors"):
            continue
        try:
            with safe_open(folder / name, framework="numpy") as file:
                tensors[name] = set(file.keys())
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{where}: {name} is cut short or damaged ({reason}); delete "
                f"{folder / name} and get it again"
            ) from None
    if INDEX not in names:
        return
    for tensor, name in shards_of(read_index(folder, where=where) or "", where=where).items():
        if tensor not in tensors[name]:
            raise InputError(
                f"{where}: {name} lacks {tensor}, which {INDEX} says it holds; get both again"
            )


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as JSON, whole or not at all."""
    content = manifest._asdict() | {STATED: dict(manifest.made_by)}
    write_sealed_json(path, dict(sorted(content.items())))


def read_manifest(path: Path, model: ModelConfig) -> Manifest:
    """Read a model's manifest and check that it still is what the config and the disk say.

    A folder is digested again, since it may have changed; a hub commit cannot have.

    Raises:
        InputError: the manifest is missing or malformed, of another checkpoint, or stale.
    """
    content = read_sealed_json(path, made_by="fetch-model")
    try:
        manifest = Manifest(**content)
    except TypeError:
        raise InputError(f"{path}: is not a model manifest; run `vrp fetch-model` again") from None
    same_commit = manifest.revision == model.revision or not _is_commit(model.revision)
    if manifest[:2] != (model.family, model.checkpoint) or not same_commit:
        raise InputError(
            f"{path}: is of {manifest.checkpoint} ({manifest.family}), the config asks for "
            f"{model.checkpoint} ({model.family}) or another revision; run `vrp fetch-model` again"
        )
    folder = local_folder(model.checkpoint)
    if folder is not None and describe_folder(model, folder, revision=None).files != manifest.files:
        raise InputError(
            f"{path}: {folder} has changed since it was recorded; run `vrp fetch-model` again"
        )
    return manifest


def _is_commit(revision: str | None) -> bool:
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _digest(files: dict[str, str]) -> str:
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

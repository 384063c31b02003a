"""Which checkpoint a model is: found, digested, and written down in a manifest (JSON)."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from vrp.config.models import ModelConfig
from vrp.data.images import file_sha256
from vrp.errors import InputError
from vrp.tables.files import write_text

ZOO_PREFIX = "zoo:"

PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)
"""The files that are loaded: weights, configuration, tokenizer. No pickles, no code."""


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
        from vrp.zoo import zoo_checkpoint

        return zoo_checkpoint(checkpoint.removeprefix(ZOO_PREFIX))
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path
    if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1:
        raise InputError(f"checkpoint folder {checkpoint} does not exist; give a folder or hub id")
    return None


def describe_folder(model: ModelConfig, folder: Path, *, revision: str | None) -> Manifest:
    """Digest every file of a checkpoint's folder that is loaded.

    Raises:
        InputError: the folder holds no safetensors weights or no configuration.
    """
    paths = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
    names = [path.name for path in paths]
    if not any(name.endswith(".safetensors") for name in names) or "config.json" not in names:
        raise InputError(
            f"checkpoint {folder}: has no config.json beside *.safetensors weights; "
            "give a folder written by save_pretrained"
        )
    files = {path.name: file_sha256(path) for path in paths}
    return Manifest(model.family, model.checkpoint, revision, files, _digest(files))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as JSON, whole or not at all."""
    write_text(path, json.dumps(manifest._asdict(), indent=1, sort_keys=True) + "\n")


def read_manifest(path: Path, model: ModelConfig) -> Manifest:
    """Read a model's manifest and check that it still is what the config and the disk say.

    A folder is digested again, since it may have changed; a hub commit cannot have.

    Raises:
        InputError: the manifest is missing or malformed, of another checkpoint, or stale.
    """
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `vrp fetch-model` first") from None
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path}: is no model manifest; run `vrp fetch-model` again") from None
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

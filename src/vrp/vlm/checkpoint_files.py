"""Which files of a checkpoint are loaded."""

import json
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from vrp.errors import InputError

WEIGHTS = "model.safetensors"
"""The weights in one file …"""
INDEX = "model.safetensors.index.json"
"""… or the list of the files that they are cut into."""
ADAPTER = "adapter_config.json"
"""The sign of an adapter, which transformers adds to the weights where it can."""
TEMPLATES = "additional_chat_templates"
"""The one folder within a checkpoint that transformers reads."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
PATTERNS = (
    "*config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "tekken.json",
    "*.tiktoken",
    "chat_template*",
    f"{TEMPLATES}/*.jinja",
)
"""What is loaded beside the weights: configuration and tokenizer. No pickles, no code."""


def files_of(folder: Path, *, where: str) -> list[str]:
    """Return the names of the files in a folder that are loaded, as `loaded_files`.

    Raises:
        InputError: as `loaded_files`.
    """
    return loaded_files(file_names(folder), read_index(folder, where=where), where=where)


def file_names(folder: Path) -> list[str]:
    """Return the names of a folder's files, and of those in its folder of templates."""
    paths = [*folder.iterdir(), *folder.glob(f"{TEMPLATES}/*")]
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def read_index(folder: Path, *, where: str) -> str | None:
    """Return the content of `INDEX`; None where there is no such file.

    Raises:
        InputError: it is no text.
    """
    try:
        return (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError(f"{where}: {INDEX} is not an index of weights; get it again") from None


def weight_files(folder: Path, *, where: str) -> list[Path]:
    """Return those of a folder's safetensors files that are loaded; none where there are none.

    Raises:
        InputError: the list of the files that the weights are cut into is damaged.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = read_index(folder, where=where)
    names = set() if index is None else set(shards_of(index, where=where).values())
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


def loaded_files(names: Collection[str], index: str | None, *, where: str) -> list[str]:
    """Of a checkpoint's files those that are loaded, sorted.

    Args:
        names: of all files, those in folders with their path.
        index: content of `INDEX`; None where there is no such file.
        where: the checkpoint, to open an error message with.

    Raises:
        InputError: no configuration, no safetensors weights, a part of them missing, or an
            adapter.
    """
    if "config.json" not in names:
        raise InputError(
            f"{where}: has no config.json; give a folder or a repository in the layout of "
            "save_pretrained"
        )
    if ADAPTER in names:
        raise InputError(
            f"{where}: its {ADAPTER} says that an adapter belongs to its weights, which is not "
            "read; merge the adapter and save the model again, or remove the file"
        )
    light = {
        name
        for name in names
        if PurePosixPath(name).parent.name in ("", TEMPLATES)
        and any(fnmatchcase(name, known) for known in PATTERNS)
    }
    return sorted(light | _weight_files(names, index, where))


def _weight_files(names: Collection[str], index: str | None, where: str) -> set[str]:
    if WEIGHTS in names:  # of the two, the one that is loaded
        return {WEIGHTS}
    if index is None:
        raise InputError(f"{where}: {_no_weights(names)}")
    shards = set(shards_of(index, where=where).values())
    if missing := sorted(shards - set(names)):
        raise InputError(
            f"{where}: {missing[0]}, a part of the weights ({INDEX}), is missing; get it again"
        )
    return {INDEX, *shards}


def _no_weights(names: Collection[str]) -> str:
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        return (
            f"its weights are pickles only ({pickles[0]}), which may run code when they are "
            "loaded; save them again with safetensors, or give a revision that has *.safetensors"
        )
    return (
        f"has no {WEIGHTS} beside its config.json; give a folder or a repository in the layout of "
        "save_pretrained, with *.safetensors weights"
    )


def shards_of(index: str, *, where: str) -> dict[str, str]:
    """Tensor → the file that holds it, from the content of `INDEX`.

    Raises:
        InputError: the index is damaged, or names a file elsewhere.
    """
    try:
        content = json.loads(index)
        found, _ = content["weight_map"], content["metadata"]  # transformers reads both
        names = found.values()
        if not found or any("/" in name or not name.endswith(".safetensors") for name in names):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{where}: {INDEX} is not an index of weights; get it again") from None
    return dict(found)

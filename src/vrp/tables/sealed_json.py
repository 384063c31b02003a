"""JSON files that carry a digest of themselves: manifests, lists of shards, sampling reports."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vrp.errors import InputError
from vrp.tables.atomic_files import write_text

_KEY = "sha256"


def write_sealed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole; its last key is the SHA-256 of the others."""
    write_text(path, sealed_text(content))


def sealed_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as text; its last key is the SHA-256 of the others."""
    return _text({**content, _KEY: _digest(content)})


def read_sealed_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read what `write_sealed_json` wrote.

    Args:
        path: the file.
        made_by: the command that makes it, for messages.

    Raises:
        InputError: the file is missing, no JSON object, or not the one that was written.
    """
    again = f"delete it and run `vrp {made_by}` again"
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `vrp {made_by}` first") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{path}: is not a JSON object (damaged?); {again}") from None
    stated = content.pop(_KEY, None)
    if stated != _digest(content):
        raise InputError(
            f"{path}: is not as it was written: its key {_KEY} does not fit the others; {again}"
        )
    return content


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()

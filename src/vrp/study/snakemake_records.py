"""What Snakemake has recorded of a file, read from its folder without Snakemake."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path


def is_marked_incomplete(path: Path, directory: Path) -> bool:
    """Whether Snakemake has noted that the file's job began and did not end.

    Args:
        path: the file.
        directory: where the workflow runs.
    """
    return any(record.is_file() for record in _records("incomplete", path, directory))


def recorded_params(path: Path, directory: Path) -> list[str]:
    """Return the params that a file was made with, the `repr` of each; empty where none are known.

    Args:
        path: the file.
        directory: where the workflow runs.
    """
    for record in _records("metadata", path, directory):
        try:
            return [str(param) for param in json.loads(record.read_text("utf-8"))["params"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return []


def _records(kind: str, path: Path, directory: Path) -> list[Path]:
    """Where a record of the file may be.

    Snakemake names the file as the configuration does: within the folder, or from the root.
    """
    names = {str(path)}
    if path.is_relative_to(directory):
        names.add(str(path.relative_to(directory)))
    return [directory / ".snakemake" / kind / _encoded(name) for name in sorted(names)]


def _encoded(name: str) -> Path:
    encoded = urlsafe_b64encode(name.encode()).decode()
    # One folder after another, where the whole would be too long for a file's name.
    *folders, last = (encoded[start : start + 254] for start in range(0, len(encoded), 254))
    return Path(*(f"@{folder}" for folder in folders), last)

"""The study's configuration, merged and checked, as a file that every `vrp` command reads."""

import os
import sys
from pathlib import Path

import yaml

from vrp.config.folder import AS_SPELLED
from vrp.config.study import StudyConfig, load_study

_VARIABLE = "VRP_STUDY"


def pass_on_snapshot(path: Path) -> None:
    """Have the jobs that this process starts, and that read the workflow again, find a snapshot."""
    os.environ[_VARIABLE] = str(path.absolute())


def snapshot_in_use() -> StudyConfig | None:
    """Return the configuration of the process that started this one; None where none was passed on.

    Raises:
        InputError: it cannot be read.
    """
    path = os.environ.get(_VARIABLE)
    return None if path is None else load_study(path)


def write_snapshot(study: StudyConfig, path: Path) -> None:
    """Write the configuration, whole or not at all, and only where it changed.

    Raises:
        SystemExit: the file cannot be written.
    """
    plain = study.model_dump(mode="json", context=AS_SPELLED)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        sys.exit(
            f"Error: {path}: cannot be written ({error.strerror}); set `results` in the config "
            "to a folder that can, or check permissions and free space"
        )

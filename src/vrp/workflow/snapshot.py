"""The study's configuration, merged and checked, as a file that every `vrp` command reads."""

import os
import sys
from pathlib import Path

import yaml

from vrp.config.study import StudyConfig


def write_snapshot(study: StudyConfig, path: Path) -> None:
    """Write the configuration, whole or not at all, and only where it changed.

    Raises:
        SystemExit: the file cannot be written.
    """
    text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
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

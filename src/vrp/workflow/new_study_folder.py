"""`vrp init`: a folder for a study of one's own, which uses the package's workflow."""

import re
import shutil
from pathlib import Path

from vrp.errors import InputError
from vrp.workflow.location import PROFILES, SNAKEFILE

_TEMPLATES = Path(__file__).parent / "new_study"
_PROFILES = ("default", "slurm")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


def make_study_folder(folder: Path) -> list[Path]:
    """Write a Snakefile, a configuration, profiles and a README; return what was written.

    Args:
        folder: new or empty; its name is the study's.

    Raises:
        InputError: its name cannot be a study's, it holds something, or the workflow's files were
            not installed.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name) or name.startswith("zoo-"):
        raise InputError(
            f"{name}: cannot be a study's name; use lower-case letters, digits, - and _"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not empty; give another folder")
    if not Path(SNAKEFILE).is_file():
        raise InputError(f"{SNAKEFILE}: no such file; install the package again")
    places = {"Snakefile": "Snakefile", "config.yaml": f"config/{name}.yaml",
              "README.md": "README.md"}  # fmt: skip
    for template, place in places.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        path.write_text(text.replace("STUDY", name), encoding="utf-8")
    for profile in _PROFILES:
        shutil.copytree(PROFILES / profile, folder / "profiles" / profile)
    return sorted(path for path in folder.rglob("*") if path.is_file())

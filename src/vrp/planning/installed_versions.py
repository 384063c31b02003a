"""Whether the installed versions are those that the project names."""

import importlib.metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_DISTRIBUTION = "vlm-reliability"
"""What `pip install` knows the package as."""


class Versions(NamedTuple):
    """What a comparison found."""

    n_pinned: int
    """Distributions that the lock names and that this project needs here."""
    problems: tuple[str, ...]
    """Each that is missing or differs, such as `torch 2.12.0 (locked: 2.13.0)`."""


def check_versions(lock: Path) -> Versions:
    """Compare what is installed with a lock of `name==version` lines.

    Distributions that nothing of the project's needs may be missing; a build's local part, such as
    `+cu128`, does not count.
    """
    if not lock.is_file():
        return Versions(0, ())
    pinned = dict(
        line.strip().split("==", 1)
        for line in lock.read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    needed = _needed()
    problems, n = [], 0
    for name, version in pinned.items():
        try:
            installed = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            if canonicalize_name(name) in needed:
                problems.append(f"{name} is missing (locked: {version})")
            continue
        n += 1
        if installed != version:
            problems.append(f"{name} {installed} (locked: {version})")
    return Versions(n, tuple(problems))


def _needed() -> set[str]:
    """Distributions that the package requires, those of the workflow included."""
    try:
        texts = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    return {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, texts)
        if requirement.marker is None or requirement.marker.evaluate({"extra": "workflow"})
    }

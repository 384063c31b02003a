"""Names of the model families, for whom only asks whether there is such a one.

The families themselves import torch, and a stage that runs no model must not depend on a prompt:
so the names are those of the modules in `vrp.vlm.families`, which are not imported for it.
"""

import difflib
from pathlib import Path
from typing import Final

from vrp.errors import InputError

_FAMILIES: Final = Path(__file__).parent / "families"
_NO_FAMILY: Final = {"__init__", "base"}
_OTHER_NAMES: Final = {"generic": "auto"}


def family_names() -> tuple[str, ...]:
    """Return every family's name in the registry, sorted."""
    modules = {path.stem for path in _FAMILIES.glob("*.py")} - _NO_FAMILY
    return tuple(sorted(_OTHER_NAMES.get(module, module) for module in modules))


def check_family(name: str) -> None:
    """Raise InputError where no family has this name; the nearest right one is suggested."""
    known = family_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise InputError(
            f"model family {name!r} is unknown; did you mean {near[0]!r}? "
            f"(known: {', '.join(known)})"
        )

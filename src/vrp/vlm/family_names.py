"""Names of the model families, without importing the families.

The families import torch, and a stage that runs no model must not depend on a prompt: so the
project's own are known by the names of their modules in `vrp.vlm.families`.
"""

import difflib
from pathlib import Path
from typing import Any, Final

from vrp.errors import InputError

_MODULES: Final = Path(__file__).parent / "families"
_NO_FAMILY: Final = {"__init__", "base"}
REGISTERED: Final[dict[str, Any]] = {}
"""Name → class of the families that `vrp.vlm.families.register_family` has added."""


def family_names() -> tuple[str, ...]:
    """Return every family's name, sorted."""
    modules = {path.stem for path in _MODULES.glob("*.py")} - _NO_FAMILY
    return tuple(sorted(modules | set(REGISTERED)))


def check_family(name: str) -> None:
    """Raise InputError where no family has this name; the nearest right one is suggested."""
    known = family_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise InputError(
            f"model family {name!r} is unknown; did you mean {near[0]!r}? "
            f"(known: {', '.join(known)})"
        )


def check_model_type(family: str, model_type: str, *, where: str) -> None:
    """Refuse a checkpoint of another model type than its family's.

    The project's own families bear the name of their model type; `auto` takes any.

    Args:
        family: name of the family.
        model_type: as the checkpoint's `config.json` has it.
        where: the model, to open an error message with.

    Raises:
        InputError: naming the family that fits.
    """
    expected = family
    if family in REGISTERED:
        expected = REGISTERED[family].model_class.config_class.model_type
    if family != "auto" and model_type != expected:
        better = model_type if model_type in family_names() else "auto"
        raise InputError(
            f"{where} is a {model_type!r} model, not {expected!r} as family {family!r} needs; "
            f"use family: {better}"
        )

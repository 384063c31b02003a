"""The families of vision-language models: one module each, which bears the family's name.

A family's module offers its class as `FAMILY`. It is imported when it is asked for, and no other.
"""

from importlib import import_module
from typing import Any

from vrp.errors import InputError
from vrp.vlm.families.base import Family
from vrp.vlm.family_names import REGISTERED, check_family, family_names

__all__ = ["Family", "get_family", "infer_family", "register_family"]


def get_family(name: str) -> type[Family]:
    """Return the family of this name: a registered one, or a module of this package.

    Raises:
        InputError: no such family; the nearest right name is suggested.
    """
    check_family(name)
    if name in REGISTERED:
        return REGISTERED[name]
    return import_module(f"{__name__}.{name}").FAMILY


def infer_family(config: Any) -> str:
    """Return the name of the family that a checkpoint's configuration is of; `auto` where it is of
    none that is named."""
    named = (name for name in family_names() if name != "auto")
    return next((name for name in named if get_family(name).refusal(config) is None), "auto")


def register_family(family: type[Family]) -> None:
    """Add a family, under its `name`, to those that `models.*.family` can name.

    Raises:
        InputError: there is a family of this name.
    """
    if family.name in family_names():
        raise InputError(f"model family {family.name!r} exists already; give yours another name")
    REGISTERED[family.name] = family

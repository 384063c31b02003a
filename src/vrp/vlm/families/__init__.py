"""The families of vision-language models: one module each, which bears the family's name.

A family's module offers its class as `FAMILY`. It is imported when it is asked for, and no other.
"""

from importlib import import_module

from vrp.errors import InputError
from vrp.vlm.families.base import Family
from vrp.vlm.family_names import REGISTERED, check_family, family_names

__all__ = ["Family", "get_family", "register_family"]


def get_family(name: str) -> type[Family]:
    """Return the family of this name: a registered one, or a module of this package.

    Raises:
        InputError: no such family; the nearest right name is suggested.
    """
    check_family(name)
    if name in REGISTERED:
        return REGISTERED[name]
    return import_module(f"{__name__}.{name}").FAMILY


def register_family(name: str, family: type[Family]) -> None:
    """Add a family from outside the package; `models.*.family` may then name it.

    Raises:
        InputError: the name is taken by another family, or is not the family's own.
    """
    if family.name != name:
        raise InputError(f"model family {name!r} calls itself {family.name!r}; use one name")
    if name in family_names() and REGISTERED.get(name) is not family:
        raise InputError(f"model family {name!r} exists already; choose another name")
    REGISTERED[name] = family

"""What the rows of `mask.conditions` and `ablate.conditions` have in common."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import field_validator

from vrp.config.section import Section
from vrp.errors import unknown_name
from vrp.interventions.masking import SHAM


class ConditionEntry(Section):
    """A row that names a kind of condition."""

    KINDS: ClassVar[Mapping[str, Any]]
    """Every kind by its name."""

    @field_validator("kind", check_fields=False)
    @classmethod
    def _known_kind(cls, value: str) -> str:
        known = [kind for kind in cls.KINDS if kind != SHAM]  # which is always run
        if value not in known:
            raise ValueError(unknown_name("kind", value, known))
        return value


class Repeated(Protocol):
    """A condition, or a repeat of one."""

    @property
    def name(self) -> str:
        """Name in the tables; repeats have the same."""

    @property
    def seed(self) -> int:
        """Which repeat."""


def require_repeatable(name: str, seeds: int, *, repeated: bool) -> None:
    """Refuse seeds of a kind that draws nothing.

    Raises:
        ValueError: naming it.
    """
    if not repeated and seeds != 1:
        raise ValueError(f"{name} takes no seeds: it would be the same each time")


def require_distinct(conditions: Iterable[Repeated]) -> None:
    """Refuse conditions that the tables could not tell apart.

    Raises:
        ValueError: naming those that are given twice.
    """
    names = [(condition.name, condition.seed) for condition in conditions]
    doubled = sorted({name for name, seed in names if names.count((name, seed)) > 1})
    if doubled:
        raise ValueError(f"conditions given twice: {', '.join(doubled)}")

"""The conditions of a study by the names that its tables store, and how a kind is added."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from vrp.errors import InputError, unknown_name
from vrp.interventions.ablation import (
    ABLATION_KINDS,
    AblationCondition,
    AblationKind,
    ablation_conditions,
)
from vrp.interventions.masking import MASK_KINDS, MaskCondition, MaskKind, mask_conditions

if TYPE_CHECKING:
    from vrp.config.study import StudyConfig

# The papers ablate five neurons.
_MAIN_ABLATION = "top_5"


def register_condition(kind: MaskKind | AblationKind) -> None:
    """Add a kind of condition, which a study's config can then name.

    It is named under `kind` in a row of `mask.conditions` or `ablate.conditions`.

    Raises:
        InputError: the name is taken, or is not a plain word.
    """
    if not kind.name.isidentifier():
        raise InputError(f"condition kind {kind.name!r}: use letters, digits and _ only")
    kinds: dict[str, MaskKind] | dict[str, AblationKind]
    kinds = MASK_KINDS if isinstance(kind, MaskKind) else ABLATION_KINDS
    if kind.name in kinds:
        raise InputError(f"condition kind {kind.name!r} exists already; give yours another name")
    kinds[kind.name] = kind  # type: ignore[assignment]


Condition = MaskCondition | AblationCondition

INTERVENTIONS = ("mask", "ablate")
"""Stages whose conditions are judged by their effect on accuracy."""


@dataclass(frozen=True)
class Contrast:
    """The difference of a condition and its control, item by item: the condition's specificity."""

    condition: Condition
    """Such as `top_30`."""
    against: Condition
    """Its control, such as `random_30`."""
    kind: ClassVar[str] = "contrast"

    @property
    def name(self) -> str:
        """Name in the tables, such as `top_30 - random_30`."""
        return f"{self.condition.name} - {self.against.name}"

    @property
    def label(self) -> str:
        """Name in figures and report, such as `most attended 30% of patches − random`."""
        return f"{self.condition.label} − {self.against.kind_label}"

    @property
    def rank(self) -> float:
        """Just after the condition and its control, whichever is later."""
        return max(self.condition.rank, self.against.rank) + 0.5

    @property
    def size(self) -> float | None:
        """That of the condition."""
        return self.condition.size

    @property
    def variant(self) -> str:
        """That of the condition."""
        return self.condition.variant


@dataclass(frozen=True)
class StudyConditions:
    """The conditions of a study's interventions by their names in the tables, in running order.

    Repeats of a random condition are one.
    """

    mask: Mapping[str, Condition] = field(default_factory=dict)
    ablate: Mapping[str, Condition] = field(default_factory=dict)

    def of(self, intervention: str) -> Mapping[str, Condition]:
        """Return the conditions of `mask` or `ablate`."""
        return {"mask": self.mask, "ablate": self.ablate}[intervention]

    def contrasts(self, intervention: str) -> dict[str, Contrast]:
        """Return the contrast of every condition whose control the study has, by the condition."""
        known = self.of(intervention)
        return {
            name: Contrast(condition, controls[0])
            for name, condition in known.items()
            if (controls := [known[one] for one in condition.controls if one in known])
        }

    def named(self, intervention: str, name: str) -> Condition | Contrast:
        """Return the condition or contrast that a table's row is about.

        Raises:
            InputError: the study's config has no such condition.
        """
        if name in (known := self.of(intervention)):
            return known[name]
        for contrast in self.contrasts(intervention).values():
            if contrast.name == name:
                return contrast
        raise InputError(
            f"{unknown_name('condition', name, known)}: the tables were made with another "
            f"`{intervention}` section of the config; rerun `vrp {intervention}`"
        )

    def main(self, intervention: str, kind: str = "top") -> Condition | None:
        """Return the condition of a kind that headline numbers are about; None: there is none.

        What the config lists first; of those, rather one that hides by attention, ranked by all
        layers, or ablates at the best layer, with zeros; of the ablations rather the papers' five
        neurons.
        """
        of_kind = {n: one for n, one in self.of(intervention).items() if one.kind == kind}
        found = {n: one for n, one in of_kind.items() if not one.variant} or of_kind
        if intervention == "ablate" and _MAIN_ABLATION in found:
            return found[_MAIN_ABLATION]
        return next(iter(found.values()), None)


def conditions_by_name(study: "StudyConfig") -> StudyConditions:
    """Return the conditions of a study, to be found by the names that its tables store."""
    return StudyConditions(
        mask=_by_name(mask_conditions(study.mask)),
        ablate=_by_name(ablation_conditions(study.ablate)),
    )


def _by_name(conditions: Iterable[Condition]) -> dict[str, Condition]:
    found: dict[str, Condition] = {}
    for condition in conditions:
        found.setdefault(condition.name, condition)
    return found

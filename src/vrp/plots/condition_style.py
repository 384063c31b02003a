"""Conditions of the interventions as figures show them: their order and their colours."""

from collections.abc import Iterable

from vrp.interventions.ablation import AblationCondition
from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
)

CONDITION_COLOURS = {
    "top": VERMILLION,
    "random": GREY,
    "matched": GREY,
    "bottom": SKY,
    "no_image": BLACK,
    "other_image": PURPLE,
    "object": ORANGE,
    "random_object": GREY,
    "background": BLUE,
    "random_background": GREY,
    "mlp": PURPLE,
    "head": PURPLE,
    "steer": VERMILLION,
    "steer_random": GREY,
    "sham": DARK_GREY,
    "contrast": BLUE,
}
"""Kind of an intervention's condition, or `contrast` → colour."""


def in_reading_order(conditions: Iterable[Condition | Contrast]) -> list[Condition | Contrast]:
    """Sort conditions: chosen ones before their controls, contrasts last, small before large."""

    def order(condition: Condition | Contrast) -> tuple[bool, float, bool, float, str]:
        contrast = isinstance(condition, Contrast)
        own = condition.condition if isinstance(condition, Contrast) else condition
        counted = isinstance(own, AblationCondition) and own.count is not None
        return contrast, own.rank, not counted, own.size or 0.0, own.variant

    return sorted(conditions, key=order)


def colour_of(condition: Condition | Contrast) -> str:
    """The colour of a condition's kind."""
    return CONDITION_COLOURS.get(condition.kind, GREEN)

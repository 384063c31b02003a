"""Guards of the best probe: checks that it does not succeed without reading reliability."""

from enum import StrEnum
from typing import NamedTuple

from vrp.probing.labels import BLIND_LINEAR_BEST, LINEAR_BEST, PERMUTED_LINEAR_BEST
from vrp.report.contrasts import TASK_ONLY
from vrp.report.evidence import ModelEvidence
from vrp.report.numbers import ReportedEstimate
from vrp.stats.estimate import ALPHA


class Outcome(StrEnum):
    """Outcome of a guard."""

    HOLDS = "holds"
    FAILS = "fails"
    UNSETTLED = "unsettled"
    NOT_RUN = "not run"


class Guard(NamedTuple):
    """One way in which a probe could succeed without reading reliability."""

    name: str
    """Short name, as in running text."""
    outcome: Outcome
    number: ReportedEstimate | None
    """The estimate that decides."""
    measure: str
    """Name of that estimate."""


def guards(model: ModelEvidence) -> list[Guard]:
    """Judge the best probe against every guard.

    Within one answer its AUROC must lie above 0.5; it must beat a blank image, the question's
    words, the emitted answer and (over all items) the task; and permuted labels must leave it at
    chance. A guard fails where the number shows the opposite or lies within the study's margin of
    no effect.
    """
    margin = model.margins.auroc
    found = []
    for answer in ("yes", "no"):
        number, measure = model.auroc(LINEAR_BEST, f"answer_{answer}"), "AUROC of the probe"
        found.append(Guard(f"within answer {answer}", _above(number, 0.5, margin), number, measure))
    for rival, name in (
        (BLIND_LINEAR_BEST, "blank image"),
        ("question_only", "question only"),
        ("answer_only", "answer only"),
        (TASK_ONLY, "task only"),
    ):
        number = model.contrasts.get(rival)
        scope = ", all items" if rival == TASK_ONLY else ""
        measure = f"AUROC of the probe minus this one’s{scope}"
        found.append(Guard(name, _above(number, 0.0, margin), number, measure))
    number, measure = model.auroc(PERMUTED_LINEAR_BEST), "AUROC of a probe so fitted"
    found.append(Guard("permuted labels", _at_chance(number, margin), number, measure))
    return found


def _above(number: ReportedEstimate | None, null: float, margin: float) -> Outcome:
    """Decide by the interval: above the null, below the null plus the margin, or open."""
    if number is None or not number.defined:
        return Outcome.NOT_RUN
    if number.low > null:
        return Outcome.HOLDS
    return Outcome.FAILS if number.high < null + margin else Outcome.UNSETTLED


def _at_chance(number: ReportedEstimate | None, margin: float) -> Outcome:
    if number is None or not number.defined:
        return Outcome.NOT_RUN
    # "At chance" is shown by equivalence, never by an interval that merely covers 0.5.
    if number.p_equivalence < ALPHA:
        return Outcome.HOLDS
    outside = not number.low <= 0.5 <= number.high
    return Outcome.FAILS if outside and abs(number.value - 0.5) > margin else Outcome.UNSETTLED

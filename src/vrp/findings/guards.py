"""Guards: checks that an estimate does not come about without reading reliability."""

from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Claim, Guard, Outcome, above, same_side
from vrp.findings.contrasts import TASK_ONLY
from vrp.findings.evidence import ModelEvidence
from vrp.probing.labels import BLIND_LINEAR_BEST, LINEAR_BEST, PERMUTED_LINEAR_BEST
from vrp.stats.estimate import ALPHA
from vrp.tables.estimates import WITHIN_ANSWERS, WITHIN_STRATA

LEAK = 0.01
"""Mean AUROC over 0.5 under permuted labels that is a leak, where its interval leaves 0.5 out."""


def claim_of(model: ModelEvidence, predictor: str) -> Claim | None:
    """A predictor's AUROC with its guards; None where it was not judged."""
    number = model.auroc(predictor)
    if number is None:
        return None
    if predictor == LINEAR_BEST:
        return Claim(number, tuple(guards(model)))
    return Claim(number, (_within_answers(model, predictor, number),))


def _within_answers(model: ModelEvidence, predictor: str, number: ReportedEstimate) -> Guard:
    """Among items of one emitted answer, the predictor must still tell right from wrong."""
    within = model.auroc(predictor, WITHIN_ANSWERS)
    outcome = same_side(within, number.value, model.margins.auroc)
    return Guard("within one answer", outcome, within, "AUROC within each emitted answer")


def guards(model: ModelEvidence) -> list[Guard]:
    """Judge the best probe against every guard.

    Within one emitted answer its AUROC must lie above 0.5; it must beat a blank image, the
    question's words, the emitted answer and (over all items) the task; and permuted labels must
    leave it at chance. A guard fails where the number shows the opposite or lies within the study's
    margin of no effect.
    """
    margin = model.margins.auroc
    probe = model.auroc(LINEAR_BEST)
    found = [] if probe is None else [_within_answers(model, LINEAR_BEST, probe)]
    for rival, name in (
        (BLIND_LINEAR_BEST, "blank image"),
        ("question_only", "question only"),
        ("answer_only", "answer only"),
        (TASK_ONLY, "task only"),
    ):
        number = model.contrasts.get(rival)
        scope = ", all items" if rival == TASK_ONLY else ""
        measure = f"AUROC of the probe minus this one’s{scope}"
        found.append(Guard(name, above(number, 0.0, margin), number, measure))
    found.append(_permuted_labels(model))
    return found


def _permuted_labels(model: ModelEvidence) -> Guard:
    """Probes fitted to permuted labels must be at chance on average, and below the true one.

    A leak shows as a mean above chance, a probe of nothing as an ordinary rank.
    """
    number = model.auroc(PERMUTED_LINEAR_BEST)
    rank = model.probe(PERMUTED_LINEAR_BEST, "rank_p", WITHIN_STRATA)
    return Guard(
        "permuted labels", _at_chance(number, rank), number, "mean AUROC of probes so fitted"
    )


def _at_chance(number: ReportedEstimate | None, rank: ReportedEstimate | None) -> Outcome:
    if number is None or not number.defined or rank is None:
        return Outcome.NOT_RUN
    if number.low > 0.5 and number.value > 0.5 + LEAK:
        return Outcome.FAILS
    at_chance = number.low < 0.5 + LEAK and number.high < 0.5 + 2 * LEAK
    return Outcome.HOLDS if at_chance and rank.value < ALPHA else Outcome.UNSETTLED

"""Guards: checks that an estimate does not come about without reading reliability."""

from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Claim, Guard, Outcome, Standing, above, same_side, standing
from vrp.findings.contrasts import BASELINES, TASK_ONLY
from vrp.findings.evidence import ModelEvidence
from vrp.probing.labels import BLIND_LINEAR_BEST, LINEAR_BEST, PERMUTED_LINEAR_BEST
from vrp.stats.estimate import ALPHA
from vrp.tables.estimates import WITHIN_ANSWERS, WITHIN_STRATA

LEAK = 0.01
"""Mean AUROC over 0.5 under permuted labels that is a leak, where its interval leaves 0.5 out."""


def claim_of(model: ModelEvidence, predictor: str) -> Claim | None:
    """A predictor's AUROC with its guards; None where it was not judged."""
    number = model.auroc(predictor)
    return None if number is None else Claim(number, tuple(guards(model, predictor)))


def guards(model: ModelEvidence, predictor: str = LINEAR_BEST) -> list[Guard]:
    """Judge a predictor against every guard.

    Within one emitted answer it must tell right from wrong, by a size that a user would notice; no
    stratum may point the other way; and it must beat the question's words and the emitted answer.
    The best probe must beat a blank image and (over all items) the task, too, and permuted labels
    must leave it at chance. A guard fails where the number shows the opposite or lies within the
    study's margin of no effect.
    """
    number = model.auroc(predictor)
    found = []
    if number is not None:
        found = [_within_answers(model, predictor, number), _strata(model, predictor, number)]
    if predictor != LINEAR_BEST:
        return [*found, *(_beyond_baseline(model, predictor, name) for name in BASELINES)]
    found += [_beyond_rival(model, rival, name) for rival, name in _RIVALS]
    return [*found, _permuted_labels(model)]


_RIVALS = (
    (BLIND_LINEAR_BEST, "blank image"),
    *((baseline, predictor_label(baseline)) for baseline in BASELINES),
    (TASK_ONLY, "task only"),
)


def _within_answers(model: ModelEvidence, predictor: str, number: ReportedEstimate) -> Guard:
    """Among items of one emitted answer, the predictor must still tell right from wrong."""
    within = model.auroc(predictor, WITHIN_ANSWERS)
    outcome = same_side(within, number.value, model.margins.auroc)
    return Guard("within one answer", outcome, within, "AUROC within each emitted answer")


def _strata(model: ModelEvidence, predictor: str, number: ReportedEstimate) -> Guard:
    """In no stratum may the predictor point the other way.

    It fails where that is shown, corrected for the predictors; where an interval alone says so, it
    is not settled.
    """
    rises = number.value >= 0.5
    known = {scope: one for scope, one in model.strata(predictor).items() if one.defined}
    name, measure = "all strata", "AUROC in the weakest stratum, none may point the other way"
    if not known:
        return Guard(name, Outcome.NOT_RUN, None, measure)
    against = Standing.BELOW if rises else Standing.ABOVE
    worst = min(known, key=lambda scope: known[scope].value if rises else -known[scope].value)
    outcome = Outcome.HOLDS
    if any(one.high < 0.5 if rises else one.low > 0.5 for one in known.values()):
        outcome = Outcome.UNSETTLED
    if any(standing(one, null=0.5) is against for one in known.values()):
        outcome = Outcome.FAILS
    return Guard(name, outcome, known[worst], measure, where=worst)


def _beyond_baseline(model: ModelEvidence, predictor: str, baseline: str) -> Guard:
    number = model.beyond_baselines.get((predictor, baseline))
    outcome = above(number, 0.0, model.margins.auroc)
    measure = "its AUROC minus this baseline’s"
    return Guard(predictor_label(baseline), outcome, number, measure, baseline=True)


def _beyond_rival(model: ModelEvidence, rival: str, name: str) -> Guard:
    number = model.contrasts.get(rival)
    scope = ", all items" if rival == TASK_ONLY else ""
    measure = f"AUROC of the probe minus this baseline’s{scope}"
    outcome = above(number, 0.0, model.margins.auroc)
    return Guard(name, outcome, number, measure, baseline=True)


def _permuted_labels(model: ModelEvidence) -> Guard:
    """Probes fitted to permuted labels must be at chance on average, and below the true one.

    A leak shows as a mean above chance, a probe of nothing as an ordinary rank.
    """
    number = model.auroc(PERMUTED_LINEAR_BEST)
    rank = model.probe(PERMUTED_LINEAR_BEST, "rank_p", WITHIN_STRATA)
    return Guard(
        "permuted labels",
        _at_chance(number, rank),
        number,
        "mean AUROC of probes fitted to shuffled labels",
    )


def _at_chance(number: ReportedEstimate | None, rank: ReportedEstimate | None) -> Outcome:
    if number is None or not number.defined or rank is None:
        return Outcome.NOT_RUN
    if number.low > 0.5 and number.value > 0.5 + LEAK:
        return Outcome.FAILS
    at_chance = number.low < 0.5 + LEAK and number.high < 0.5 + 2 * LEAK
    return Outcome.HOLDS if at_chance and rank.value < ALPHA else Outcome.UNSETTLED

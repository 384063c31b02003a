"""What one claim amounts to, in a few words: in the decision, and beside each signal and probe."""

from vrp.estimates.predictors import predictor_kind
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import (
    Claim,
    Guard,
    Outcome,
    Verdict,
    differs_noticeably,
    judge,
    size_of,
)
from vrp.findings.evidence import ModelEvidence
from vrp.findings.guards import claim_of
from vrp.report.numbers import decimal, listed
from vrp.report.tabular import Cell, estimate_cell


def shortcoming(claim: Claim, verdict: Verdict) -> str:
    """Why a signal cannot be relied on: a guard that it fails, or what is undecided.

    Args:
        claim: its AUROC and guards.
        verdict: on it; not yes.
    """
    number = claim.number
    if differs_noticeably(number):
        failed = [guard for guard in claim.guards if guard.outcome is Outcome.FAILS]
        named = failed or [guard for guard in claim.guards if guard.outcome is not Outcome.HOLDS]
        names = listed([guard.name for guard in named])
        if all(guard.baseline for guard in named):
            return f"{'no' if failed else 'not shown to be'} better than {names}"
        guards = f"the guard{'s' * (len(named) > 1)} {names}"
        return f"fails {guards}" if failed else f"undecided by {guards}"
    return "no better than chance" if verdict is Verdict.NO else "undecided"


def smallest_detectable(number: ReportedEstimate) -> str:
    """The smallest AUROC that the study could have found; empty where that is not known."""
    resolvable = number.resolvable
    return f"detectable from {decimal(0.5 + resolvable)}" if resolvable < 0.5 else ""


def verdict_cell(model: ModelEvidence, predictor: str) -> Cell:
    """The verdict on one signal or probe; empty for guards and where there is no estimate."""
    claim = claim_of(model, predictor)
    if claim is None or predictor_kind(predictor) == "guards" or not claim.number.defined:
        return Cell("")
    verdict = judge({predictor: claim}).verdict
    if verdict is Verdict.YES:
        return Cell(f"yes, {size_of(claim.number.value)}", kind="good")
    if verdict not in (Verdict.NO, Verdict.UNDECIDED):
        return Cell(str(verdict), kind="muted")
    words = shortcoming(claim, verdict)
    detail = smallest_detectable(claim.number) if words == "undecided" else ""
    return Cell(words, detail, "bad" if verdict is Verdict.NO else "muted")


def guard_cell(guard: Guard) -> Cell:
    """The estimate that decides a guard, and the stratum that it is of."""
    cell = estimate_cell(guard.number, signed="minus" in guard.measure)
    return cell._replace(detail=f"{cell.detail}; {guard.where}") if guard.where else cell

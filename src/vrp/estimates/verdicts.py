"""What a claim may say: the one place that turns estimates, tests and guards into words.

"Yes" needs a difference after Holm's correction, of a size that a user would notice, that every
guard survives. "No" needs equivalence within the study's margin, or a guard that fails and shows
that the estimate is something else. One that tells no more than a simple baseline may still tell
something that the baseline does not. All else is undecided, with the smallest effect that the
design could have resolved.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from vrp.estimates.reported import ReportedEstimate
from vrp.stats.auroc import CONSTANT
from vrp.stats.clusters import TOO_FEW
from vrp.stats.estimate import ALPHA
from vrp.tables.captured import NOT_CAPTURED

SIZES = ((0.55, "negligible"), (0.65, "weak"), (0.8, "moderate"), (math.inf, "strong"))
"""AUROC below which a size has this name; an AUROC under 0.5 is as large as its mirror image."""


class Verdict(StrEnum):
    """Answer to a question about one model."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"
    TOO_FEW = "too few wrong or right answers"
    NOT_RUN = "not run"
    NOT_CAPTURED = NOT_CAPTURED


class Standing(StrEnum):
    """Comparison of an estimate with "no effect"."""

    MISSING = "missing"
    """There is no estimate."""
    TOO_FEW = "too few"
    """There are too few right or wrong answers for one."""
    CONSTANT = "constant"
    """The signal has one value only, on enough answers to show that it tells nothing."""
    EQUIVALENT = "equivalent"
    """Closer to no effect than the margin, by the equivalence test."""
    ABOVE = "above"
    """Larger, after correction."""
    BELOW = "below"
    """Smaller, after correction."""
    UNSETTLED = "unsettled"
    """Neither a difference nor equivalence is shown."""

    @property
    def differs(self) -> bool:
        """Whether a difference is shown."""
        return self in (Standing.ABOVE, Standing.BELOW)


class Outcome(StrEnum):
    """Outcome of a guard."""

    HOLDS = "holds"
    FAILS = "fails"
    UNSETTLED = "unsettled"
    NOT_RUN = "not run"


class Guard(NamedTuple):
    """One way in which an estimate could come about without reading reliability."""

    name: str
    """Short name, as in running text."""
    outcome: Outcome
    number: ReportedEstimate | None
    """The estimate that decides."""
    measure: str
    """Name of that estimate."""
    baseline: bool = False
    """Whether it compares with a simple baseline: that this tells as much is no proof that the
    claim is false."""
    where: str = ""
    """The stratum that the estimate is of; empty: all strata."""


class Claim(NamedTuple):
    """A predictor that may tell right answers from wrong ones."""

    number: ReportedEstimate
    """Its AUROC."""
    guards: tuple[Guard, ...] = ()

    @property
    def survives(self) -> Outcome:
        """Joint outcome of the guards: that of the worst, but unsettled where only a comparison
        with a baseline fails."""
        outcomes = {guard.outcome for guard in self.guards}
        if any(guard.outcome is Outcome.FAILS and not guard.baseline for guard in self.guards):
            return Outcome.FAILS
        return Outcome.HOLDS if outcomes <= {Outcome.HOLDS} else Outcome.UNSETTLED


class Judgement(NamedTuple):
    """Verdict on a question about one model, and the claim that decides it."""

    verdict: Verdict
    predictor: str = ""
    """The predictor that decides, or the strongest one; empty where none has an estimate."""
    claim: Claim | None = None


def standing(number: ReportedEstimate | None, *, null: float, conjoined: bool = False) -> Standing:
    """Judge one estimate; equivalence comes first, since a tiny effect can differ from none.

    A difference needs both the test and the interval: a sign-flip test and a t interval can
    disagree at few images, and a reader who sees no effect inside the interval is right to doubt.

    Args:
        number: the estimate.
        null: its value at no effect.
        conjoined: part of a claim that *all* of several are equivalent, which needs each test at
            its own level and no correction (an intersection–union test, Berger 1982).
    """
    if number is None:
        return Standing.MISSING
    if not number.defined:
        return Standing.TOO_FEW if TOO_FEW in number.note else Standing.MISSING
    constant = CONSTANT in number.note and not math.isfinite(number.low)
    if (number.p_equivalence if conjoined else number.p_equivalence_adjusted) < ALPHA:
        return Standing.CONSTANT if constant else Standing.EQUIVALENT
    if number.p_adjusted < ALPHA and not number.low <= null <= number.high:
        return Standing.ABOVE if number.value > null else Standing.BELOW
    return Standing.UNSETTLED


def size_of(auroc: float) -> str:
    """Word for the size of an AUROC, whichever side of 0.5 it lies on."""
    distance = max(auroc, 1 - auroc)
    return next(name for below, name in SIZES if distance < below)


def is_noticeable(auroc: float) -> bool:
    """Whether a user would notice an AUROC of this size."""
    return size_of(auroc) != SIZES[0][1]


def differs_noticeably(number: ReportedEstimate) -> bool:
    """Whether an AUROC is shown to differ from chance, by a size that a user would notice."""
    return standing(number, null=0.5).differs and is_noticeable(number.value)


def judge(claims: Mapping[str, Claim]) -> Judgement:
    """Decide whether any of several predictors tells right answers from wrong ones.

    That all of several tell nothing needs no correction of their equivalence tests; one on its own
    stands beside the others of its table, and is corrected for them.

    Args:
        claims: predictor → its estimate and guards.
    """
    several = len(claims) > 1
    found = {
        name: standing(claim.number, null=0.5, conjoined=several) for name, claim in claims.items()
    }
    known = {name: claims[name] for name, where in found.items() if where in _INFORMATIVE}
    if not known:
        return Judgement(_without_estimate(claims, list(found.values())))
    telling = {
        name: claim
        for name, claim in known.items()
        if found[name].differs and is_noticeable(claim.number.value)
    }
    for outcome, verdict in _BY_GUARDS.items():
        if chosen := {n: claim for n, claim in telling.items() if claim.survives is outcome}:
            name = _strongest(chosen)
            return Judgement(verdict, name, claims[name])
    # Those that tell are something else. "No" needs all the others to tell nothing.
    others = {name: claim for name, claim in known.items() if name not in telling}
    open_ones = {n: c for n, c in others.items() if found[n] is not Standing.EQUIVALENT}
    name = _strongest(open_ones or telling or known)
    return Judgement(Verdict.UNDECIDED if open_ones else Verdict.NO, name, claims[name])


_INFORMATIVE = (Standing.EQUIVALENT, Standing.ABOVE, Standing.BELOW, Standing.UNSETTLED)
# One that survives decides, then one that might, before all that fail.
_BY_GUARDS = {Outcome.HOLDS: Verdict.YES, Outcome.UNSETTLED: Verdict.UNDECIDED}


def _without_estimate(claims: Mapping[str, Claim], found: Sequence[Standing]) -> Verdict:
    if Standing.TOO_FEW in found:
        return Verdict.TOO_FEW
    if Standing.CONSTANT in found:
        return Verdict.NO
    missing = any(not claim.number.captured for claim in claims.values())
    return Verdict.NOT_CAPTURED if missing else Verdict.NOT_RUN


def _strongest(claims: Mapping[str, Claim]) -> str:
    return max(claims, key=lambda name: abs(claims[name].number.value - 0.5))


def above(number: ReportedEstimate | None, null: float, margin: float) -> Outcome:
    """Outcome of a guard that an estimate lies above `null`, by its interval.

    It fails where the interval lies below the null plus the margin of equivalence.
    """
    if number is None or not number.defined:
        return Outcome.NOT_RUN
    if number.low > null:
        return Outcome.HOLDS
    return Outcome.FAILS if number.high < null + margin else Outcome.UNSETTLED


def same_side(number: ReportedEstimate | None, claim: float, margin: float) -> Outcome:
    """Outcome of a guard that an AUROC lies on the same side of 0.5 as the claim's, noticeably."""
    if number is not None and claim < 0.5:
        number = number._replace(value=1 - number.value, low=1 - number.high, high=1 - number.low)
    outcome = above(number, 0.5, margin)
    if number is None or outcome is not Outcome.HOLDS or is_noticeable(number.value):
        return outcome
    return Outcome.FAILS if number.high < SIZES[0][0] else Outcome.UNSETTLED

"""What a study of given counts can find: studies with a known truth, judged as the report does."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.estimates.estimate_rows import EstimateRow, adjusted, estimate_row
from vrp.estimates.reported import ReportedEstimate, corrected
from vrp.estimates.verdicts import (
    Claim,
    Guard,
    Outcome,
    Standing,
    Verdict,
    is_noticeable,
    judge,
    same_side,
    standing,
)
from vrp.planning.simulated_studies import (
    CORRELATION,
    SHARED_SCORES,
    WRONG,
    Design,
    Intervened,
    Items,
    auroc_of_answers,
    correlation_of_answers,
    draw_groups,
    draw_intervention,
    draw_items,
    draw_scores,
    knowing_answers,
    telling,
)
from vrp.progress import progress
from vrp.report.conclusions import SUPERVISED_ATTENTION
from vrp.signals.registry import SIGNALS, attention_signals
from vrp.stats.auroc import (
    auroc_equivalence_p,
    auroc_estimate,
    stratified_auroc,
    van_elteren_weight,
)
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import group_sums, smallest_resolvable
from vrp.stats.estimate import ALPHA
from vrp.stats.paired import (
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
    smallest_paired_effect,
)
from vrp.tables.estimates import WITHIN_STRATA

AUROCS = (0.55, 0.6, 0.7)
"""True AUROCs of one signal beside noise."""
CHANGED = (0.05, 0.2)
"""Shares of answers that an intervention changes."""
EFFECTS = (2.0, 5.0)
"""Effects on accuracy, percentage points."""
STUDIES = 200
"""Studies of each truth."""
_DEFAULT_MARGINS = EquivalenceMargins()
_SIGNAL = "signal 1"


class Truth(NamedTuple):
    """What one of the signals knows in truth; all others are noise."""

    auroc: float
    """Its AUROC within strata; 0.5: it is noise, too."""
    correlation: float = CORRELATION
    """Correlation of two signals apart from what they know."""
    answer_alone: bool = False
    """It knows which answer was emitted, and nothing else: within one answer it is noise."""


class Simulated(NamedTuple):
    """What studies of one truth were found to say."""

    truth: Truth
    yes: float
    """Share of studies whose verdict is yes."""
    no: float
    undecided: float
    """The rest, "too few" among them."""
    found: float
    """Share in which that signal differs from chance after Holm's correction, guards apart."""
    coverage: float
    """Share of the 95% intervals that hold the truth."""
    resolvable: float
    """Median over studies of the smallest distance from 0.5 that is found with 80% power."""


class SimulatedEffect(NamedTuple):
    """What studies of one intervention were found to say."""

    changed: float
    """Share of the answers that become right or wrong."""
    effect: float
    """True effect on accuracy, percentage points."""
    found: float
    """Share of studies in which an effect is shown, of the true sign where there is one."""
    none: float
    """Share in which it is equivalent to no effect."""
    undecided: float
    """The rest."""
    coverage: float
    """Share of the 95% intervals that hold the true effect."""
    resolvable: float
    """Median of the smallest effect that is found with 80% power, percentage points."""


class Simulation(NamedTuple):
    """All truths, and interventions."""

    n_signals: int
    """Signals that one verdict is about."""
    n_tests: int
    """Signals that are corrected for together."""
    n_studies: int
    n_images: int
    """Images of the first study."""
    truths: tuple[Simulated, ...]
    """Noise as correlated as asked for, independent noise, the signals, the answer alone."""
    effects: tuple[SimulatedEffect, ...]


def n_judged() -> int:
    """Signals that the report's verdict on attention is about, the supervised ones among them."""
    return len(attention_signals()) + len(SUPERVISED_ATTENTION)


def n_corrected(n_signals: int) -> int:
    """Signals that Holm's correction is over: all of the metrics table."""
    return max(n_signals, len(SIGNALS))


def simulate(
    design: Design,
    aurocs: Sequence[float],
    *,
    n_signals: int | None = None,
    correlation: float = CORRELATION,
    n_studies: int = STUDIES,
    margins: EquivalenceMargins = _DEFAULT_MARGINS,
    changed: Sequence[float] = CHANGED,
    effects: Sequence[float] = EFFECTS,
) -> Simulation:
    """Draw and judge studies; noise, no effect and the answer alone are always among the truths.

    Args:
        design: the counts.
        aurocs: true AUROCs of one signal; all others are noise.
        n_signals: signals of the verdict; None: as many as the report's on attention.
        correlation: of two signals.
        n_studies: of each truth.
        margins: of equivalence.
        changed: shares of answers that an intervention changes.
        effects: true effects on accuracy, percentage points; those larger than a share are left
            out beside it.

    Raises:
        InputError: a value that cannot be.
    """
    n_signals = n_judged() if n_signals is None else n_signals
    _check(aurocs, n_signals, correlation, n_studies, changed)
    truths = [Truth(0.5, one) for one in dict.fromkeys((correlation, 0.0))]
    truths += [Truth(auroc, correlation) for auroc in aurocs if auroc != 0.5]
    if max(design.answers) > 1:
        truths.append(Truth(auroc_of_answers(design), correlation, answer_alone=True))
    pairs = [
        (share, effect)
        for share in changed
        for effect in dict.fromkeys((0.0, *effects))
        if abs(effect) <= 100 * share
    ]
    n_tests = n_corrected(n_signals)
    total = (len(truths) + len(pairs)) * n_studies
    with progress(total, "studies", unit="study") as bar:
        found = [
            simulate_truth(
                design, truth, n_signals=n_signals, n_tests=n_tests, n_studies=n_studies,
                margins=margins, done=bar.update,
            )
            for truth in truths
        ]  # fmt: skip
        paired = [
            simulate_effect(
                design, share, effect, n_studies=n_studies, margins=margins, done=bar.update
            )
            for share, effect in pairs
        ]
    n_images = int(draw_groups(design, generator("simulate", design.study)).max()) + 1
    return Simulation(n_signals, n_tests, n_studies, n_images, tuple(found), tuple(paired))


def _check(
    aurocs: Sequence[float],
    n_signals: int,
    correlation: float,
    n_studies: int,
    changed: Sequence[float],
) -> None:
    if n_signals < 1 or n_studies < 1:
        raise InputError("--signals and --studies must be at least 1")
    if not all(0 < auroc < 1 for auroc in aurocs):
        raise InputError(f"--auroc: must be between 0 and 1, found {list(aurocs)}")
    if not 0 <= correlation < 1:
        raise InputError(f"--correlation: must be at least 0 and below 1, found {correlation}")
    if not all(0 < share <= 1 for share in changed):
        raise InputError(f"--changed: a share must be between 0 and 1, found {list(changed)}")


def simulate_truth(
    design: Design,
    truth: Truth,
    *,
    n_signals: int,
    n_tests: int,
    n_studies: int = STUDIES,
    margins: EquivalenceMargins = _DEFAULT_MARGINS,
    done: Callable[[], object] = bool,
) -> Simulated:
    """Draw and judge studies of one truth.

    Args:
        design: the counts.
        truth: what the first signal knows.
        n_signals: signals of the verdict.
        n_tests: signals that are corrected for together, those of the verdict among them.
        n_studies: how many.
        margins: of equivalence.
        done: called after each study.
    """
    verdicts = dict.fromkeys(Verdict, 0)
    known: list[ReportedEstimate] = []
    for number in range(n_studies):
        random = generator("simulate", design.study, repr(truth), number)
        claims = judged_signals(design, truth, n_signals, n_tests, margins, random)
        verdicts[judge(claims).verdict] += 1
        if claims[_SIGNAL].number.defined:
            known.append(claims[_SIGNAL].number)
        done()
    yes, no = (verdicts[one] / n_studies for one in (Verdict.YES, Verdict.NO))
    return Simulated(
        truth, yes, no, 1 - yes - no,
        _share(standing(one, null=0.5, conjoined=True).differs for one in known),
        _share(one.low <= truth.auroc <= one.high for one in known),
        float(np.median([one.resolvable for one in known])) if known else math.nan,
    )  # fmt: skip


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return float(np.mean(found)) if found else math.nan


def judged_signals(
    design: Design,
    truth: Truth,
    n_signals: int,
    n_tests: int,
    margins: EquivalenceMargins,
    random: np.random.Generator,
) -> dict[str, Claim]:
    """Draw a study, and estimate all of its signals; what the truth is about is the first."""
    items = draw_items(design, random)
    scores = draw_scores(items, n_signals, random, correlation=truth.correlation)
    if truth.answer_alone:
        scores[0] = knowing_answers(scores[0], items.answers)
    else:
        scores[0] = telling(scores[0], items.correct, truth.auroc)
    numbers = _estimates(scores, items, n_tests, margins)
    return {
        name: Claim(number, _guards(one, items, number, margins))
        for (name, number), one in zip(numbers.items(), scores, strict=True)
    }


def _estimates(
    scores: NDArray[np.float64], items: Items, n_tests: int, margins: EquivalenceMargins
) -> dict[str, ReportedEstimate]:
    """AUROCs within strata, corrected for each other and for tests that show nothing."""
    rows: list[EstimateRow] = []
    for number, values in enumerate(scores, start=1):
        part = stratified_auroc(
            values, items.correct, items.groups, items.strata, n_images=items.n_images
        )
        rows.append(
            estimate_row(
                f"signal {number}", WITHIN_STRATA, "auroc", auroc_estimate(part),
                p_equivalence=auroc_equivalence_p(part, margin=margins.auroc),
                se=part.test_se, df=part.df,
            )
        )  # fmt: skip
    nothing = [{**rows[0], "p": 1.0, "p_equivalence": math.nan}] * (n_tests - len(rows))
    columns = adjusted([*rows, *nothing])
    return {
        row["predictor"]: ReportedEstimate.from_row({name: columns[name][i] for name in columns})
        for i, row in enumerate(rows)
    }


def _guards(
    scores: NDArray[np.float64],
    items: Items,
    number: ReportedEstimate,
    margins: EquivalenceMargins,
) -> tuple[Guard, ...]:
    """The guard "within one answer", of a signal that a verdict could rest on; of others none."""
    if not (standing(number, null=0.5, conjoined=True).differs and is_noticeable(number.value)):
        return ()
    part = stratified_auroc(
        scores, items.correct, items.groups, items.answer_strata, n_images=items.n_images
    )
    within = ReportedEstimate.from_estimate(auroc_estimate(part))
    outcome: Outcome = same_side(within, number.value, margins.auroc)
    return (Guard("within one answer", outcome, within, "AUROC within each emitted answer"),)


def simulate_effect(
    design: Design,
    changed: float,
    effect: float,
    *,
    n_studies: int = STUDIES,
    margins: EquivalenceMargins = _DEFAULT_MARGINS,
    done: Callable[[], object] = bool,
) -> SimulatedEffect:
    """Draw and judge interventions of one true effect.

    Args:
        design: the counts.
        changed: share of the answers that become right or wrong.
        effect: on accuracy, percentage points.
        n_studies: how many.
        margins: of equivalence.
        done: called after each study.
    """
    numbers = []
    for number in range(n_studies):
        random = generator("simulate effect", design.study, f"{changed:g} {effect:g}", number)
        drawn = draw_intervention(design, random, changed=changed, effect=effect)
        numbers.append(judged_effect(drawn, margins))
        done()
    found = [standing(one, null=0.0) for one in numbers]
    right_sign = {Standing.ABOVE, Standing.BELOW}
    if effect:
        right_sign = {Standing.ABOVE if effect > 0 else Standing.BELOW}
    shown = _share(one in right_sign for one in found)
    none = _share(one is Standing.EQUIVALENT for one in found)
    resolvable = [one.resolvable for one in numbers if math.isfinite(one.resolvable)]
    return SimulatedEffect(
        changed, effect, shown, none, 1 - shown - none,
        _share(one.low <= effect <= one.high for one in numbers if math.isfinite(one.low)),
        float(np.median(resolvable)) if resolvable else math.nan,
    )  # fmt: skip


def judged_effect(drawn: Intervened, margins: EquivalenceMargins) -> ReportedEstimate:
    """Effect of an intervention as the effects stage estimates and tests it, one on its own."""
    part = paired_difference(
        drawn.before, drawn.after, drawn.groups, n_images=int(drawn.groups.max()) + 1
    )
    nets = group_sums(drawn.after.astype(np.float64) - drawn.before, drawn.groups)
    estimate = paired_estimate(part)._replace(p=sign_flip_test(nets, seed="simulate"))
    number = ReportedEstimate.from_estimate(estimate)._replace(
        se=part.se, resolvable=part.resolvable(ALPHA),
        p_equivalence=paired_equivalence_p(part, margin=margins.effect_pp),
    )  # fmt: skip
    return corrected({"effect": number})["effect"]


def smallest_effect(n_items: int, *, changed: float = CHANGED[-1], n_tests: int = 1) -> float:
    """Smallest effect on accuracy that an intervention can show with 80% power.

    Of items on different images, without simulation.

    Args:
        n_items: items that it is run on.
        changed: share of the answers that become right or wrong.
        n_tests: effects that are tested together.

    Returns:
        Percentage points; NaN for fewer than two items.
    """
    if n_items < 2:
        return math.nan
    return smallest_paired_effect(n_items, changed / 2, n_items - 1, alpha=ALPHA / n_tests)


def resolvable_auroc(design: Design, *, n_tests: int) -> float:
    """Smallest distance from 0.5 that a signal within strata is found at with 80% power.

    From Mann and Whitney's variance, times what the questions of one image have in common (Kish's
    design effect), without simulation.
    """
    total = variance = 0.0
    n_items, n_images = sum(design.counts), int(draw_groups(design, generator(design.study)).max())
    others = n_items / (n_images + 1) - 1
    for count, wrong in zip(design.counts, design.wrong, strict=True):
        n_wrong = round(count * wrong)
        weight = van_elteren_weight(count - n_wrong, n_wrong)
        alone = (count + 1) / (12 * max(n_wrong * (count - n_wrong), 1))
        total += weight
        variance += weight**2 * alone * (1 + others * SHARED_SCORES * correlation_of_answers(wrong))
    se = math.sqrt(variance) / total if total else math.nan
    return smallest_resolvable(se, n_images, alpha=ALPHA / n_tests)


def resolution_note(study: StudyConfig) -> str:
    """Return what a study's counts can show, in a sentence for the plan."""
    design, n_tests = Design.of(study), n_corrected(n_judged())
    distance = resolvable_auroc(design, n_tests=n_tests)
    effect = smallest_effect(design.n_intervened)
    # An AUROC is at most 0.5 from chance, an effect at most 100 pp; NaN: nothing can be tested.
    auroc = f"an AUROC {distance:.3f} away from 0.5" if distance < 0.5 else "no AUROC, even of 1"
    shown = f"an effect on accuracy of {effect:.1f} pp" if effect < 100 else "no effect on accuracy"
    return (
        f"With {100 * WRONG:g}% wrong answers these counts can show {auroc} "
        f"({n_tests} signals, 80% power), and {shown} where {100 * CHANGED[-1]:g}% of the answers "
        "change; `vrp simulate` says more"
    )

"""What a study of given counts can find: studies with a known truth, judged as the report does."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from tqdm import tqdm

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.estimates.estimate_rows import EstimateRow, adjusted, estimate_row
from vrp.estimates.reported import ReportedEstimate, plain
from vrp.estimates.verdicts import Claim, Verdict, judge
from vrp.stats.auroc import auroc_estimate, stratified_auroc, van_elteren_weight
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import smallest_resolvable
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import ALPHA
from vrp.tables.estimates import WITHIN_STRATA
from vrp.text_table import aligned

WRONG = 0.3
"""Share of wrong answers that a study is taken to have where nothing is known."""
N_SIGNALS = 13
"""Signals of one question, which are corrected for together."""
SHARED = 0.2
"""Share of the variance of answers and scores that the questions of one image have in common."""
CHANGED = (0.05, 0.2)
"""Shares of answers that an intervention changes, for which the smallest effect is given."""


class Design(NamedTuple):
    """Counts of a study."""

    study: str
    splits: tuple[str, ...]
    """Names, `dataset/split`."""
    counts: tuple[int, ...]
    """Items of each."""
    wrong: tuple[float, ...]
    """Share of wrong answers in each."""
    per_image: int
    """Questions that share an image."""
    n_masked: int
    """Items of the interventions."""

    @classmethod
    def of(cls, study: StudyConfig, wrong: Sequence[float], *, per_image: int = 1) -> "Design":
        """Take the counts of a configuration.

        Raises:
            InputError: not one share, nor one for each split; a share outside (0, 1); no question.
        """
        splits = study.sample.splits
        shares = list(wrong) * len(splits) if len(wrong) == 1 else list(wrong)
        if len(shares) != len(splits):
            raise InputError(
                f"--wrong: {len(shares)} shares for {len(splits)} splits; give one for all, or one "
                f"for each of {', '.join(f'{s.dataset}/{s.split}' for s in splits)}"
            )
        if not all(0 < share < 1 for share in shares):
            raise InputError(f"--wrong: a share must lie between 0 and 1, found {shares}")
        if per_image < 1:
            raise InputError(f"--questions-per-image: at least 1, found {per_image}")
        return cls(
            study.study,
            tuple(f"{split.dataset}/{split.split}" for split in splits),
            tuple(split.count for split in splits), tuple(shares), per_image,
            min(study.mask.items, sum(split.count for split in splits)),
        )  # fmt: skip


class Items(NamedTuple):
    """Items of one simulated study."""

    strata: NDArray[np.int64]
    """(n,) split of each."""
    groups: NDArray[np.int64]
    """(n,) image of each."""
    correct: NDArray[np.bool_]
    """(n,)"""

    @property
    def n_images(self) -> int:
        """Images of all splits; splits share none."""
        return int(self.groups.max()) + 1


class Simulated(NamedTuple):
    """What studies of one truth were found to say."""

    auroc: float
    """True AUROC of the one signal that is not noise; 0.5: all are."""
    yes: float
    """Share of studies whose verdict is yes."""
    no: float
    undecided: float
    """The rest, "too few" among them."""
    found: float
    """Share in which that signal differs from chance after Holm's correction."""
    coverage: float
    """Share of the 95% intervals that hold the truth."""
    resolvable: float
    """Median over studies of the smallest distance from 0.5 that is found with 80% power."""


class Simulation(NamedTuple):
    """All truths, and what interventions could show."""

    n_signals: int
    n_studies: int
    truths: tuple[Simulated, ...]
    effects: tuple[tuple[float, float], ...]
    """(share of answers changed, smallest effect on accuracy in percentage points)."""


def draw_items(design: Design, random: np.random.Generator) -> Items:
    """Draw which answers are right; those on one image hang together."""
    strata = np.repeat(np.arange(len(design.counts)), design.counts)
    groups = np.empty(strata.size, dtype=np.int64)
    n_images = 0
    for split, count in enumerate(design.counts):
        groups[strata == split] = n_images + np.arange(count) // design.per_image
        n_images += math.ceil(count / design.per_image)
    latent = _shared(random, groups)
    threshold = norm.ppf(np.array(design.wrong))[strata]
    return Items(strata, groups, latent > threshold)


def draw_scores(items: Items, auroc: float, random: np.random.Generator) -> NDArray[np.float64]:
    """(n,) normal scores whose AUROC, over items of different images, is the one wanted."""
    return _shared(random, items.groups) + math.sqrt(2) * norm.ppf(auroc) * items.correct


def _shared(random: np.random.Generator, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    of_images = random.normal(size=int(groups.max()) + 1)[groups]
    own = random.normal(size=groups.size)
    return math.sqrt(SHARED) * of_images + math.sqrt(1 - SHARED) * own


def simulate(
    design: Design,
    aurocs: Sequence[float],
    *,
    n_signals: int = N_SIGNALS,
    n_studies: int = 200,
    margin: float = 0.05,
) -> Simulation:
    """Draw and judge studies.

    Args:
        design: the counts.
        aurocs: true AUROCs of one signal; all others are noise.
        n_signals: signals of the question, which are corrected for together.
        n_studies: of each truth.
        margin: of equivalence with 0.5.

    Raises:
        InputError: an AUROC outside (0, 1), no signal or no study.
    """
    if n_signals < 1 or n_studies < 1:
        raise InputError("--signals and --studies must be at least 1")
    if not all(0 < auroc < 1 for auroc in aurocs):
        raise InputError(f"--auroc: must lie between 0 and 1, found {list(aurocs)}")
    with tqdm(total=len(aurocs) * n_studies, unit="study", desc="studies", mininterval=1) as bar:
        truths = tuple(
            _simulated(design, auroc, n_signals, n_studies, margin, bar) for auroc in aurocs
        )
    return Simulation(n_signals, n_studies, truths, _effects(design))


def _simulated(
    design: Design, auroc: float, n_signals: int, n_studies: int, margin: float, bar: Any
) -> Simulated:
    verdicts = dict.fromkeys(Verdict, 0)
    found, held, n_defined = 0, 0, 0
    resolvable = []
    for number in range(n_studies):
        random = generator("simulate", design.study, f"{auroc:g}", number)
        estimates = _judged_signals(draw_items(design, random), auroc, n_signals, margin, random)
        verdicts[judge({name: Claim(one) for name, one in estimates.items()}).verdict] += 1
        signal = estimates["signal 1"]
        if signal.defined:
            n_defined += 1
            found += signal.p_adjusted < ALPHA
            held += signal.low <= auroc <= signal.high
            resolvable.append(signal.resolvable)
        bar.update()
    yes, no = (verdicts[one] / n_studies for one in (Verdict.YES, Verdict.NO))
    of_defined = n_defined or math.nan
    return Simulated(
        auroc, yes, no, 1 - yes - no, found / of_defined, held / of_defined,
        float(np.median(resolvable)) if resolvable else math.nan,
    )  # fmt: skip


def _judged_signals(
    items: Items, auroc: float, n_signals: int, margin: float, random: np.random.Generator
) -> dict[str, ReportedEstimate]:
    """The estimates of all signals, corrected for each other; the first is the true one."""
    low, high = EquivalenceMargins(auroc=margin).chance
    rows: list[EstimateRow] = []
    for number in range(n_signals):
        scores = draw_scores(items, auroc if number == 0 else 0.5, random)
        part = stratified_auroc(
            scores, items.correct, items.groups, items.strata, n_images=items.n_images
        )
        rows.append(
            estimate_row(
                f"signal {number + 1}", WITHIN_STRATA, "auroc", auroc_estimate(part),
                p_equivalence=equivalence_p(part, low=low, high=high),
                se=part.test_se, df=part.df,
            )
        )  # fmt: skip
    columns = adjusted(rows)
    return {
        row["predictor"]: ReportedEstimate.from_row({name: columns[name][i] for name in columns})
        for i, row in enumerate(rows)
    }


def smallest_effect(
    n_items: int, *, changed: float = CHANGED[-1], per_image: int = 1, n_tests: int = 1
) -> float:
    """Smallest effect on accuracy that an intervention can show with 80% power.

    Args:
        n_items: items that it is run on.
        changed: share of the answers that become right or wrong.
        per_image: questions that share an image.
        n_tests: effects that are tested together.

    Returns:
        Percentage points; NaN for fewer than two images.
    """
    n_images = math.ceil(n_items / per_image)
    if n_images < 2:
        return math.nan
    se = 100 * math.sqrt(changed / n_items)
    return smallest_resolvable(se, n_images - 1, alpha=ALPHA / n_tests)


def _effects(design: Design) -> tuple[tuple[float, float], ...]:
    """Smallest effect that the interventions' items can show, by the share that changes."""
    return tuple(
        (changed, smallest_effect(design.n_masked, changed=changed, per_image=design.per_image))
        for changed in CHANGED
    )


def resolvable_auroc(design: Design, *, n_signals: int) -> float:
    """Smallest distance from 0.5 that a signal within strata is found at with 80% power.

    From Mann and Whitney's variance of independent items, without simulation.
    """
    total = variance = 0.0
    for count, wrong in zip(design.counts, design.wrong, strict=True):
        n_wrong = round(count * wrong)
        weight = van_elteren_weight(count - n_wrong, n_wrong)
        total += weight
        variance += weight**2 * (count + 1) / (12 * max(n_wrong * (count - n_wrong), 1))
    se = math.sqrt(variance) / total if total else math.nan
    return smallest_resolvable(se, sum(design.counts) - 1, alpha=ALPHA / n_signals)


def resolution_note(study: StudyConfig) -> str:
    """Return what a study's counts can show, in a sentence for the plan."""
    design, n_signals = Design.of(study, [WRONG]), N_SIGNALS
    changed, effect = _effects(design)[-1]
    return (
        f"With {100 * design.wrong[0]:g}% wrong answers these counts can show an AUROC "
        f"{resolvable_auroc(design, n_signals=n_signals):.3f} away from 0.5 ({n_signals} signals, "
        f"80% power), and an effect on accuracy of {effect:.1f} pp where {100 * changed:g}% of the "
        "answers change; `vrp simulate` says more"
    )


def as_text(design: Design, found: Simulation) -> str:
    """Return the tables for a terminal."""
    counts = ", ".join(
        f"{name} {count:,} ({100 * wrong:g}% wrong)"
        for name, count, wrong in zip(design.splits, design.counts, design.wrong, strict=True)
    )
    rows = [["true AUROC", "yes", "no", "undecided", "found", "95% interval holds", "could find"]]
    for one in found.truths:
        rows.append([
            f"{one.auroc:g}" + (" (noise)" if one.auroc == 0.5 else ""),
            *(f"{100 * share:.1f}%" for share in (one.yes, one.no, one.undecided, one.found,
                                                  one.coverage)),
            f"0.5 ± {one.resolvable:.3f}",
        ])  # fmt: skip
    effects = "; ".join(
        f"{size:.1f} pp where {100 * changed:g}% of the answers change"
        for changed, size in found.effects
    )
    questions = "question" if design.per_image == 1 else "questions"
    return "\n".join([
        f"{design.study}: {counts}; {design.per_image} {questions} an image.",
        f"{found.n_studies} studies of each truth, {found.n_signals} signals, one of which is not "
        "noise. Verdicts without guards.",
        "",
        aligned(rows, n_text=1),
        "",
        f"Smallest effect on accuracy of one intervention on {design.n_masked:,} items, with 80% "
        f"power: {effects}.",
    ])  # fmt: skip


def as_json(design: Design, found: Simulation) -> str:
    """Return the same numbers as JSON."""
    content = {
        "design": design._asdict(),
        **found._asdict(),
        "truths": [one._asdict() for one in found.truths],
        "effects": [{"changed": changed, "smallest_pp": size} for changed, size in found.effects],
    }
    return json.dumps(plain(content), indent=2) + "\n"

"""Confidences that somebody else made, judged as the study judges its own signals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.config.margins import EquivalenceMargins
from vrp.data.confidence_file import ConfidenceFile
from vrp.errors import InputError
from vrp.estimates.estimate_rows import EstimateRow, adjusted, estimate_row
from vrp.estimates.reported import ReportedEstimate, corrected
from vrp.estimates.verdicts import Claim, Guard, Judgement, Outcome, above, judge, same_side
from vrp.probing.baselines import answer_only
from vrp.probing.folds import FoldPlan, ProbeItems, Split
from vrp.stats.auroc import (
    MIN_IMAGES,
    auroc_difference,
    auroc_equivalence_p,
    auroc_estimate,
    clustered_auroc,
    difference_equivalence_p,
    stratified_auroc,
)
from vrp.stats.calibration import Calibration, calibration
from vrp.stats.calibrators import N_FOLDS, FittedCalibrator, fit_calibrator, image_folds
from vrp.stats.clusters import ClusteredEstimate, difference, numbered, smallest_resolvable
from vrp.stats.estimate import ALPHA
from vrp.stats.proportion import clustered_share
from vrp.stats.risk_control import RiskControl, check_levels, control_risk
from vrp.stats.risk_coverage import RiskCoverage, risk_coverage
from vrp.stats.selective import selective_estimates
from vrp.tables.estimates import POOLED, WITHIN_ANSWERS, WITHIN_STRATA

SEED = "judge"
"""Names the draw of the folds."""
MAX_STRATA = 50
"""Strata of a file: the estimate of each holds the influence of every image."""
MAX_ANSWERS = 50
"""Answers within strata, the most frequent ones, whose items are compared with each other."""
ALL_ITEMS = "all items"
"""The one stratum of a file that names none."""
MODEL = "model"
"""Predictor of the rows of accuracy, as in the study's tables."""


@dataclass(frozen=True)
class JudgedItems:
    """The items of a file, ready for the statistics."""

    file: ConfidenceFile
    codes: NDArray[np.int64]
    """(n,) number of each item's image."""
    n_images: int

    @classmethod
    def of(cls, file: ConfidenceFile) -> "JudgedItems":
        """Number the images, and check that there are enough of them and not too many strata."""
        codes, n_images = numbered(file.groups)
        if n_images < MIN_IMAGES:
            raise InputError(
                f"{file.path}: judged answers on {n_images} images; intervals and tests count "
                f"images and need at least {MIN_IMAGES}"
            )
        if file.strata is not None and (n_strata := len(set(file.strata))) > MAX_STRATA:
            raise InputError(
                f"{file.path}: {n_strata:,} strata in column {file.columns['stratum']!r}; a "
                f"stratum is a task or a kind of question, at most {MAX_STRATA} of them; name "
                "another column with --stratum"
            )
        return cls(file, codes, n_images)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,) whether the answer is right."""
        return self.file.correct

    @cached_property
    def strata(self) -> NDArray[np.str_]:
        """(n,) stratum of each item."""
        return np.array(self.file.strata or [ALL_ITEMS] * len(self.file.ids))

    @cached_property
    def scopes(self) -> Mapping[str, NDArray[np.bool_]]:
        """Scope → (n,) its items: strata, where there are several, and all of them."""
        names = np.unique(self.strata).tolist()
        everyone = np.ones(self.strata.size, dtype=bool)
        several = names if len(names) > 1 else []
        return {**{str(name): self.strata == name for name in several}, POOLED: everyone}

    @cached_property
    def answer_cells(self) -> NDArray[np.int64] | None:
        """(n,) number of each item's stratum and answer, −1 where rare; None without answers."""
        if self.file.answers is None:
            return None
        cells = np.char.add(np.char.add(self.strata, " = "), np.array(self.file.answers))
        _, code, count = np.unique(cells, return_inverse=True, return_counts=True)
        number = np.full(count.size, -1)
        frequent = np.argsort(-count, kind="stable")[:MAX_ANSWERS]
        number[frequent] = np.where(count[frequent] < 2 * MIN_IMAGES, -1, frequent)
        return number[code]

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """(n,) fold of each item, by image."""
        return image_folds(np.array(self.file.groups), seed=SEED)

    @cached_property
    def answer_rates(self) -> NDArray[np.float64]:
        """(n,) share right of the same answer within the stratum, in the other folds."""
        every = np.arange(self.folds.size)
        splits = tuple(
            Split(
                fold,
                train := every[self.folds != fold],
                every[self.folds == fold],
                np.zeros(train.size, dtype=np.int64),
            )
            for fold in range(N_FOLDS)
        )
        probed = ProbeItems.of(self.file.ids, self.correct, self.file.groups, self.strata)
        texts = np.char.add(np.char.add(self.strata, " = "), np.array(self.file.answers))
        return answer_only(texts, probed, FoldPlan(self.folds, splits, SEED)).scores


class ScoreJudgement(NamedTuple):
    """What a file shows of one score."""

    name: str
    n_missing: int
    """Judged items without it."""
    auroc: ReportedEstimate
    """Within strata."""
    judgement: Judgement
    """Whether it tells right answers from wrong ones, with its guards."""
    selective: Mapping[str, ReportedEstimate]
    """`prr`, `accuracy_at_50`, `_80` and `_90`, over all items; missing ones are answered last."""
    curve: RiskCoverage
    """Over all items; missing ones are answered last."""
    calibration: Calibration | None
    """Of the score itself; None where it leaves [0, 1] and so is no probability."""
    calibrator: FittedCalibrator
    """Map from the score to a probability."""
    calibrated: Calibration
    """Of that map's probabilities for images that it was not fitted on."""
    thresholds: tuple[RiskControl, ...]
    """For each alpha."""


class Comparison(NamedTuple):
    """Two scores on the items that have both."""

    first: str
    second: str
    first_auroc: float
    second_auroc: float
    gap: ReportedEstimate
    """AUROC within strata of the first minus that of the second."""


class JudgedConfidences(NamedTuple):
    """What a file of confidences shows."""

    items: JudgedItems
    accuracy: ReportedEstimate
    """Share of right answers."""
    scores: tuple[ScoreJudgement, ...]
    """In the order of the file."""
    comparisons: tuple[Comparison, ...]
    """Every pair of scores."""
    rows: Mapping[str, Sequence[object]]
    """Columns of the estimates: those of the study's tables."""
    numbers: Mapping[tuple[str, str, str], ReportedEstimate]
    """Predictor, scope and metric → the same estimates."""
    delta: float
    margin: float
    """Differences of AUROC within ± this count as none."""
    too_few: Mapping[str, int]
    """Scores that are not judged → images that have them, fewer than a calibration needs."""

    @property
    def by_auroc(self) -> list[ScoreJudgement]:
        """Scores from the highest AUROC to the lowest; those without one come last."""
        return sorted(self.scores, key=lambda one: -one.auroc.value if one.auroc.defined else 0.0)

    @property
    def best(self) -> ScoreJudgement:
        """The first of them."""
        return self.by_auroc[0]


def judge_confidences(
    file: ConfidenceFile, *, alphas: Sequence[float], delta: float
) -> JudgedConfidences:
    """Judge every score of a file.

    Args:
        file: the rows.
        alphas: shares of wrong answers among those accepted, each to be guaranteed.
        delta: chance that such a guarantee may fail for any of the scores.

    Raises:
        InputError: too few images, overall or with any of the scores; too many strata; or a level
            out of range.
    """
    for alpha in alphas:
        check_levels(alpha, delta)
    items, margins = JudgedItems.of(file), EquivalenceMargins()
    file, too_few = _without_rare_scores(items)
    items = replace(items, file=file)
    rows = _accuracy_rows(items)
    for name, score in file.scores.items():
        rows += [*_auroc_rows(name, score, items, margins), *_selective_rows(name, score, items)]
    columns = adjusted(rows)
    numbers = _numbers(columns)
    # The reader takes the best of the scores: a guarantee holds for all of them together.
    delta_each = delta / len(file.scores)
    scores = tuple(
        ScoreJudgement(
            name,
            int(np.isnan(score).sum()),
            numbers[name, WITHIN_STRATA, "auroc"],
            judge({name: _claim(name, score, items, numbers, margins.auroc)}),
            {
                metric: number
                for (predictor, scope, metric), number in numbers.items()
                if (predictor, scope) == (name, POOLED) and metric != "auroc"
            },
            risk_coverage(score, items.correct),
            *_calibrations(score, items),
            tuple(
                control_risk(score, items.correct, file.groups, alpha=alpha, delta=delta_each)
                for alpha in alphas
            ),
        )
        for name, score in file.scores.items()
    )
    accuracy = numbers[MODEL, POOLED, "accuracy"]
    return JudgedConfidences(
        items,
        accuracy,
        scores,
        _comparisons(items, margins.auroc),
        columns,
        numbers,
        delta,
        margins.auroc,
        too_few,
    )


def _without_rare_scores(items: JudgedItems) -> tuple[ConfidenceFile, dict[str, int]]:
    """The file without scores of too few images to calibrate, and those with their images."""
    file = items.file
    n_images = {
        name: np.unique(items.codes[~np.isnan(score)]).size for name, score in file.scores.items()
    }
    too_few = {name: n for name, n in n_images.items() if n < N_FOLDS}
    kept = {name: score for name, score in file.scores.items() if name not in too_few}
    if not kept:
        name, n = next(iter(too_few.items()))
        raise InputError(
            f"{file.path}: judged answers on {n} images have a finite {name}; a score needs at "
            f"least {N_FOLDS}"
        )
    return file._replace(scores=kept), too_few


def _numbers(
    columns: Mapping[str, Sequence[object]],
) -> dict[tuple[str, str, str], ReportedEstimate]:
    """(predictor, scope, metric) → its estimate."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        (str(row["predictor"]), str(row["scope"]), str(row["metric"])): (
            ReportedEstimate.from_row(row)
        )
        for row in rows
    }


def _accuracy_rows(items: JudgedItems) -> list[EstimateRow]:
    return [
        estimate_row(
            MODEL, scope, "accuracy",
            clustered_share(items.correct[here], items.codes[here], n_images=items.n_images),
        )
        for scope, here in items.scopes.items()
    ]  # fmt: skip


def _auroc_rows(
    name: str, score: NDArray[np.float64], items: JudgedItems, margins: EquivalenceMargins
) -> list[EstimateRow]:
    """AUROC within strata, within answers, in each stratum, and over all items."""

    def row(scope: str, part: ClusteredEstimate) -> EstimateRow:
        asked = items.scopes.get(scope, items.scopes[POOLED]).sum()
        return estimate_row(
            name, scope, "auroc", auroc_estimate(part), n_dropped=int(asked) - part.n,
            p_equivalence=auroc_equivalence_p(part, margin=margins.auroc), se=part.test_se,
            df=part.df,
        )  # fmt: skip

    rows = [row(WITHIN_STRATA, _within(score, items, items.strata))]
    if (cells := items.answer_cells) is not None:
        rows.append(row(WITHIN_ANSWERS, _within(score, items, cells, among=cells >= 0)))
    # One after the other: each holds the influence of every image.
    for scope, here in items.scopes.items():
        part = clustered_auroc(
            score[here], items.correct[here], items.codes[here], n_images=items.n_images, name=scope
        )
        rows.append(row(scope, part))
    return rows


def _within(
    score: NDArray[np.float64],
    items: JudgedItems,
    strata: NDArray[np.str_] | NDArray[np.int64],
    *,
    among: NDArray[np.bool_] | None = None,
    folds: NDArray[np.int64] | None = None,
) -> ClusteredEstimate:
    """AUROC within strata of the items among some."""
    here = np.ones(score.size, dtype=bool) if among is None else among
    return stratified_auroc(
        score[here], items.correct[here], items.codes[here], strata[here],
        n_images=items.n_images, folds=None if folds is None else folds[here],
    )  # fmt: skip


def _selective_rows(name: str, score: NDArray[np.float64], items: JudgedItems) -> list[EstimateRow]:
    return [
        estimate_row(name, scope, metric, estimate, se=part.se, df=part.df)
        for scope, here in items.scopes.items()
        for metric, (part, estimate) in selective_estimates(
            score[here], items.correct[here], items.codes[here], n_images=items.n_images
        ).items()
    ]


def _claim(
    name: str,
    score: NDArray[np.float64],
    items: JudgedItems,
    numbers: Mapping[tuple[str, str, str], ReportedEstimate],
    margin: float,
) -> Claim:
    """A score's AUROC within strata, with the guards that the file allows."""
    number = numbers[name, WITHIN_STRATA, "auroc"]
    if items.file.answers is None or not number.defined:
        return Claim(number)
    within = numbers[name, WITHIN_ANSWERS, "auroc"]
    guards = [
        Guard(
            "within one answer", same_side(within, number.value, margin), within,
            "AUROC within each emitted answer",
        )
    ]  # fmt: skip
    turned = score if number.value >= 0.5 else -score
    gap = _reported(*_beside_answer(turned, items))
    guards.append(
        Guard(
            "answer only", above(gap, 0.0, margin), gap,
            "AUROC of the score minus that of the emitted answer alone", baseline=True,
        )
    )  # fmt: skip
    # Where every answer is rare, none can be compared within.
    return Claim(number, tuple(guard for guard in guards if guard.outcome is not Outcome.NOT_RUN))


def _beside_answer(
    score: NDArray[np.float64], items: JudgedItems
) -> tuple[ClusteredEstimate, ClusteredEstimate]:
    """AUROC, and that of the rate right of the emitted answer in other folds of images."""
    here = ~np.isnan(score)
    first, second = (
        _within(values, items, items.strata, among=here, folds=items.folds)
        for values in (score, items.answer_rates)
    )
    return first, second


def _calibrations(
    score: NDArray[np.float64], items: JudgedItems
) -> tuple[Calibration | None, FittedCalibrator, Calibration]:
    known = score[~np.isnan(score)]
    raw = None
    if 0 <= known.min() <= known.max() <= 1:
        raw = calibration(score, items.correct)
    fitted = fit_calibrator(score, items.correct, np.array(items.file.groups), seed=SEED)
    return raw, fitted, calibration(fitted.probabilities, items.correct)


def _comparisons(items: JudgedItems, margin: float) -> tuple[Comparison, ...]:
    """Every pair of scores, paired by item; corrected over the pairs."""
    scores = items.file.scores
    pairs = list(combinations(scores, 2))
    found: dict[str, tuple[str, str, float, float]] = {}
    gaps: dict[str, ReportedEstimate] = {}
    for first, second in pairs:
        both = ~np.isnan(scores[first]) & ~np.isnan(scores[second])
        a, b = (_within(scores[name], items, items.strata, among=both) for name in (first, second))
        if a.defined and b.defined:
            key = f"{first}\x1f{second}"
            found[key] = first, second, a.value, b.value
            gaps[key] = _reported(a, b, margin=margin, n_tests=len(pairs))
    return tuple(Comparison(*found[key], gap) for key, gap in corrected(gaps).items())


def _reported(
    first: ClusteredEstimate,
    second: ClusteredEstimate,
    *,
    margin: float = math.nan,
    n_tests: int = 1,
) -> ReportedEstimate:
    """A difference of AUROCs with its test of none and, with a margin, of equivalence."""
    gap, estimate = difference(first, second), auroc_difference(first, second)
    equivalent = math.nan
    if math.isfinite(margin):
        equivalent = difference_equivalence_p(first, second, margin=margin)
    return ReportedEstimate.from_estimate(estimate)._replace(
        se=gap.se, p_equivalence=equivalent,
        resolvable=smallest_resolvable(gap.se, gap.df, alpha=ALPHA / n_tests),
    )  # fmt: skip

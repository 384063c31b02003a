"""Two models, or one model in two studies, compared on the questions that both were asked."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.margins import EquivalenceMargins
from vrp.errors import InputError
from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import ReportedEstimate, corrected
from vrp.estimates.verdicts import Standing, standing
from vrp.signals.registry import SIGNALS
from vrp.stats.auroc import (
    auroc_difference,
    clustered_auroc,
    difference_equivalence_p,
    van_elteren_weight,
)
from vrp.stats.clusters import (
    MIN_IMAGES,
    TOO_FEW,
    ClusteredEstimate,
    difference,
    group_sums,
    mean_of,
    n_distinct,
    not_estimated,
    numbered,
    smallest_resolvable,
)
from vrp.stats.estimate import ALPHA, Estimate, join_notes
from vrp.stats.paired import (
    PairedDifference,
    PairedMean,
    mean_over_tasks,
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
)
from vrp.stats.ties import merge_near_ties
from vrp.tables.captured import is_captured
from vrp.tables.estimates import MACRO
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table, strata_of

IDENTICAL = "identical"
"""Verdict where no answer, or no score, differs."""
WORDS = {
    Standing.EQUIVALENT: "equivalent",
    Standing.ABOVE: "B is higher",
    Standing.BELOW: "A is higher",
    Standing.UNSETTLED: "undecided",
}
"""Verdicts on B minus A; where there is no estimate, too few."""
_PROBES = ("linear_best", "fusion")
"""Probes that are compared beside the deployable signals, where both studies have them."""
_SAME = ("group", "task", "form")
_EVERYTHING = "all items"
_DEFAULT = EquivalenceMargins()
# Columns of A and of B in the joined table.
_SUFFIXES = ("", " of B")


class Side(NamedTuple):
    """One of the two."""

    name: str
    """Study and model."""
    rows: pl.DataFrame
    """Judged rows of its signals table; where its probes have run, with `fold` and the scores of
    each probe as further columns."""


class Difference(NamedTuple):
    """One number of both, and B minus A on the same items."""

    name: str
    """Task, or predictor."""
    first: float
    """A's."""
    second: float
    """B's."""
    gap: ReportedEstimate
    """B − A: percentage points of accuracy, or AUROC within strata. Its note says why there is no
    interval, and what is left out."""
    identical: bool
    """No answer, or no score, differs: a statement about these items, which needs no interval."""

    @property
    def label(self) -> str:
        """Name in the table and in the figure."""
        return "mean over tasks" if self.name == MACRO else predictor_label(self.name)

    @property
    def verdict(self) -> str:
        """Word for the difference."""
        if self.identical:
            return IDENTICAL
        found = standing(self.gap, null=0.0)
        if found is Standing.UNSETTLED and TOO_FEW in self.gap.note and math.isnan(self.gap.low):
            return TOO_FEW
        return WORDS.get(found, TOO_FEW)


class _Row(NamedTuple):
    """A difference before it is corrected."""

    found: Difference
    resolvable: Callable[[float], float]
    """Smallest difference that a test at this level finds with 80% power."""


class _Judged(NamedTuple):
    """Scores of one side, (n,) each."""

    values: NDArray[np.float64]
    right: NDArray[np.bool_]
    folds: NDArray[np.int64]


class PairedComparison(NamedTuple):
    """Accuracy and signals of two models on the same questions."""

    first: str
    """Study and model of A."""
    second: str
    """Of B."""
    n_items: int
    """Questions that both have a judged answer to."""
    n_images: int
    n_alone: tuple[int, int]
    """Judged questions that A alone, or B alone, has."""
    changed: float
    """Share of the questions that one of them alone answers right."""
    margin_pp: float
    """Differences of accuracy within ± this count as none."""
    margin_auroc: float
    """Differences of AUROC within ± this count as none."""
    accuracies: tuple[Difference, ...]
    """By task, over all items, and the mean over tasks."""
    aurocs: tuple[Difference, ...]
    """Of each predictor that both have."""


def read_side(folder: Path) -> Side:
    """Read a model's folder of a finished study, such as `results/demo/llava`.

    Raises:
        InputError: it lacks a signals table, or no answer there is judged.
    """
    path = folder / "signals.parquet"
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no signals.parquet; give the folder of one model of a study whose "
            "metrics have run, such as results/demo/llava"
        )
    origin = read_provenance(path)
    signals = read_table(path, signal_table())
    predictions = folder / "predictions.parquet"
    scores = read_table([predictions] if predictions.is_file() else [], PREDICTIONS)
    side = side_of(f"{origin.get('study', '?')}/{origin.get('model', '?')}", signals, scores)
    if side.rows.is_empty():
        raise InputError(f"{folder}: no answer is judged, since no item has a reference answer")
    return side


def side_of(name: str, signals: pl.DataFrame, predictions: pl.DataFrame) -> Side:
    """Join the judged rows of a signals table with the scores of the probes that are compared."""
    rows = signals.drop_nulls("correct")
    scores = predictions.filter(pl.col("probe").is_in(_PROBES))
    if len(rows) and len(scores):
        wide = scores.pivot("probe", index=("item_id", "fold"), values="score")
        rows = rows.join(wide, on="item_id", how="left")
    return Side(name, rows)


def compare(
    first: Side,
    second: Side,
    *,
    margin_pp: float = _DEFAULT.effect_pp,
    margin_auroc: float = _DEFAULT.auroc,
) -> PairedComparison:
    """Compare B with A, item by item, clustered by image.

    Args:
        first: A.
        second: B.
        margin_pp: differences of accuracy within ± this many percentage points count as none.
        margin_auroc: the same of AUROCs.

    Raises:
        InputError: no item is in both, or an item asks something else in each.
    """
    both = first.rows.join(second.rows, on="item_id", how="inner", suffix=" of B").sort("item_id")
    if both.is_empty():
        raise InputError(
            f"{first.name} and {second.name} share no judged item; compare studies whose items "
            "come from the same data"
        )
    for name in _SAME:
        if not (differs := both.filter(pl.col(name) != pl.col(f"{name} of B"))).is_empty():
            raise InputError(
                f"item {differs['item_id'][0]} has another {name} in {second.name} than in "
                f"{first.name}: it is not the same question"
            )
    codes, n_images = numbered(both["group"].to_numpy())
    changed = float((both["correct"] != both["correct of B"]).mean())  # type: ignore[arg-type]
    return PairedComparison(
        first.name, second.name, len(both), n_images,
        (len(first.rows) - len(both), len(second.rows) - len(both)),
        changed, margin_pp, margin_auroc,
        _accuracies(both, codes, n_images, margin_pp),
        _aurocs(both, codes, n_images, margin_auroc),
    )  # fmt: skip


def _accuracies(
    both: pl.DataFrame, codes: NDArray[np.int64], n_images: int, margin: float
) -> tuple[Difference, ...]:
    tasks = both["task"].to_numpy()
    right, right_of_b = (both[name].to_numpy() for name in ("correct", "correct of B"))
    places = {str(task): tasks == task for task in sorted(set(tasks.tolist()))}
    parts = {
        task: paired_difference(
            right[here], right_of_b[here], codes[here], n_images=n_images, name=task
        )
        for task, here in places.items()
    }
    rows = {}
    everything = np.ones(tasks.size, dtype=bool)
    for name, here in {**places, _EVERYTHING: everything}.items():
        part = parts.get(name) or paired_difference(right, right_of_b, codes, n_images=n_images)
        nets = group_sums(right_of_b[here].astype(np.float64) - right[here], codes[here])
        means = 100 * float(right[here].mean()), 100 * float(right_of_b[here].mean())
        same = bool((right[here] == right_of_b[here]).all())
        p = sign_flip_test(nets, seed=f"compare/{name}")
        rows[name] = _accuracy(name, means, part, p, margin, identical=same)
    if len(places) > 1:
        used = [rows[task].found for task, part in parts.items() if part.n_groups >= MIN_IMAGES]
        of_used = np.isin(tasks, [one.name for one in used])
        mean = mean_over_tasks(parts, n_groups=n_distinct(codes[of_used]))
        means = _mean([one.first for one in used]), _mean([one.second for one in used])
        same = bool(used) and all(one.identical for one in used)
        rows[MACRO] = _accuracy(MACRO, means, mean, mean.p_against(0.0), margin, identical=same)
    return _corrected(rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _accuracy(
    name: str,
    means: tuple[float, float],
    part: PairedDifference | PairedMean,
    p: float,
    margin: float,
    *,
    identical: bool,
) -> _Row:
    """Difference of two accuracies in percent; under 10 images without interval and test."""
    enough = part.n_groups >= MIN_IMAGES
    estimate = paired_estimate(part)._replace(p=p if enough else math.nan)
    gap = _reported(estimate, part.se, paired_equivalence_p(part, margin=margin))
    resolvable = part.resolvable if enough and part.defined else _none
    return _Row(Difference(name, *means, gap, identical), resolvable)


def _none(alpha: float) -> float:
    return math.nan


def _aurocs(
    both: pl.DataFrame, codes: NDArray[np.int64], n_images: int, margin: float
) -> tuple[Difference, ...]:
    rows = {}
    for name in (*(s.name for s in SIGNALS.values() if s.deployable), *_PROBES):
        columns = (name, f"{name} of B")
        if not all(one in both.columns and is_captured(both[one]) for one in columns):
            continue
        scores = np.array([_scores(both, name, suffix) for suffix in _SUFFIXES])
        if (scored := ~np.isnan(scores).any(axis=0)).any():
            rows[name] = _auroc(name, both, scores, scored, codes, n_images, margin)
    return _corrected(rows)


def _auroc(
    name: str,
    both: pl.DataFrame,
    scores: NDArray[np.float64],
    scored: NDArray[np.bool_],
    codes: NDArray[np.int64],
    n_images: int,
    margin: float,
) -> _Row:
    """AUROC of one predictor, on the items that both have its score of."""
    some = both.filter(pl.Series(scored))
    sides = [
        _Judged(values[scored], some[f"correct{suffix}"].to_numpy(), _folds(some, name, suffix))
        for values, suffix in zip(scores, _SUFFIXES, strict=True)
    ]
    first, second = _within_common_strata(
        sides, codes[scored], strata_of(some).to_numpy(), n_images=n_images
    )
    gap = difference(second, first)
    estimate = auroc_difference(second, first)
    same = gap.defined and all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))
    dropped = int((~scored).sum())
    notes = (
        f"{dropped} items dropped: not both have a score" if dropped else "",
        "no interval: no score differs" if same else "",
        first.note if same else estimate.note,
    )
    reported = _reported(
        estimate._replace(note=join_notes(*notes)),
        gap.se,
        difference_equivalence_p(second, first, margin=margin),
    )
    return _Row(
        Difference(name, first.value, second.value, reported, same),
        lambda alpha: smallest_resolvable(gap.se, gap.df, alpha=alpha),
    )


def _within_common_strata(
    sides: Sequence[_Judged],
    codes: NDArray[np.int64],
    strata: NDArray[np.str_],
    *,
    n_images: int,
) -> tuple[ClusteredEstimate, ClusteredEstimate]:
    """AUROC of both within the strata in which both have enough right and wrong answers.

    Both give a stratum the same weight, the mean of their van Elteren weights: else models that
    rank alike within every stratum would differ wherever their accuracies do.
    """
    parts: tuple[dict[str, ClusteredEstimate], ...] = ({}, {})
    weights, used = [], np.zeros(strata.size, dtype=bool)
    for stratum in np.unique(strata).tolist():
        here = strata == stratum
        pair = [
            clustered_auroc(
                side.values[here], side.right[here], codes[here], n_images=n_images,
                name=stratum, folds=side.folds[here],
            )
            for side in sides
        ]  # fmt: skip
        lacking = [
            f"{one.note} in {side}" for one, side in zip(pair, "AB", strict=True) if not one.defined
        ]
        for of_side, one in zip(parts, pair, strict=True):
            of_side[stratum] = not_estimated("; ".join(lacking)) if lacking else one
        weights.append(sum(_weight(side.right[here]) for side in sides))
        used |= here & (not lacking)
    n_groups = n_distinct(codes[used])
    first, second = (mean_of(one, n_groups=n_groups, weights=weights) for one in parts)
    return first, second


def _weight(right: NDArray[np.bool_]) -> float:
    return van_elteren_weight(int(right.sum()), int((~right).sum()))


def _scores(both: pl.DataFrame, name: str, suffix: str) -> NDArray[np.float64]:
    """(n,) larger means "more likely right"; values equal up to rounding are ties."""
    values = merge_near_ties(both[f"{name}{suffix}"].to_numpy())
    low = name in SIGNALS and SIGNALS[name].reliable_when == "low"
    return -values if low else values


def _folds(both: pl.DataFrame, name: str, suffix: str) -> NDArray[np.int64]:
    """Folds of one side's probe, whose scores come from another fit in each; one of a signal."""
    if name in SIGNALS:
        return np.zeros(len(both), dtype=np.int64)
    return both[f"fold{suffix}"].fill_null(-1).to_numpy().astype(np.int64)


def _reported(estimate: Estimate, se: float, p_equivalence: float) -> ReportedEstimate:
    return ReportedEstimate.from_estimate(estimate)._replace(se=se, p_equivalence=p_equivalence)


def _corrected(rows: Mapping[str, _Row]) -> tuple[Difference, ...]:
    """Holm's correction over a table, for differences and for equivalence.

    The smallest difference that could be found is that of the strictest of the table's tests.
    """
    gaps = corrected({name: row.found.gap for name, row in rows.items()})
    n_tests = max(1, sum(math.isfinite(gap.p_adjusted) for gap in gaps.values()))
    return tuple(
        row.found._replace(gap=gaps[name]._replace(resolvable=row.resolvable(ALPHA / n_tests)))
        for name, row in rows.items()
    )

"""Rows of the estimates tables: how well one value per item tells right answers from wrong ones.

The headline is the AUROC within strata (task × answer form), combined with van Elteren's weights:
a signal that merely recognises the task, or whether a question asks for yes or no, gains nothing
there. The unweighted mean over tasks and the pooled AUROC stand beside it for comparison.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from vrp.config.margins import EquivalenceMargins
from vrp.data.scoring import answer_form
from vrp.stats.auroc import (
    auroc_equivalence_p,
    auroc_estimate,
    bootstrap_auroc,
    clustered_auroc,
    stratified_auroc,
    too_few,
)
from vrp.stats.bootstrap import Resamples, resample_groups
from vrp.stats.clusters import ClusteredEstimate, mean_of, smallest_resolvable
from vrp.stats.correlation import clustered_correlation, correlation_estimate, point_biserial
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import (
    ALPHA,
    LEVEL,
    SIGNAL_MISSING,
    Estimate,
    join_notes,
    n_kept_labels,
    undefined,
)
from vrp.stats.multiplicity import holm
from vrp.stats.proportion import clustered_share
from vrp.stats.selective import selective_estimates
from vrp.stats.ties import merge_near_ties
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import MACRO, NOT_A_LAYER, POOLED, WITHIN_ANSWERS, WITHIN_STRATA

EstimateRow = dict[str, Any]


def answer_forms(references: pl.Series) -> pl.Series:
    """Return the form of the answer that each question asks for; empty where it is not known.

    Args:
        references: reference answers, null where not known.
    """
    known = {text: answer_form(text) for text in references.drop_nulls().unique()}
    return references.replace_strict(known, default="", return_dtype=pl.String)


@dataclass(frozen=True)
class EvaluationItems:
    """The items that predictors are evaluated on."""

    correct: NDArray[np.bool_]
    """(n,) whether the greedy answer is right."""
    tasks: NDArray[np.str_]
    """(n,) task of each item."""
    forms: NDArray[np.str_]
    """(n,) form of the answer that the question asks for: yes/no, number, other."""
    answers: NDArray[np.object_]
    """(n,) parsed answer: yes and no are scopes of their own for existence items."""
    groups: NDArray[np.int64]
    """(n,) image of each item, numbered in the order of their names."""
    n_images: int
    """Images of all of them."""
    resamples: Resamples
    """Of the bootstrap that stands beside the analytic intervals."""
    margins: EquivalenceMargins
    """Margins of the equivalence tests."""
    difficulty: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    """Scope → (n,) how easy each item is; NaN where not known. Items of a stratum are compared
    within thirds of it."""

    @classmethod
    def from_frame(
        cls, frame: pl.DataFrame, *, seed: int, n_boot: int, margins: EquivalenceMargins
    ) -> "EvaluationItems":
        """Take the rows of the signals table (columns correct, task, form, answer, group)."""
        # Numbers sort as the names do, and a hundred times faster.
        groups = frame["group"].rank("dense").to_numpy().astype(np.int64) - 1
        return cls(
            correct=frame["correct"].to_numpy(),
            tasks=frame["task"].to_numpy().astype(str),
            forms=frame["form"].to_numpy().astype(str),
            answers=frame["answer"].to_numpy(),
            groups=groups,
            n_images=int(groups.max(initial=-1)) + 1,
            resamples=resample_groups(groups, seed=f"{seed}/reliability", n_boot=n_boot),
            margins=margins,
        )

    @cached_property
    def task_names(self) -> list[str]:
        """Tasks of the items, sorted."""
        return sorted(set(self.tasks.tolist()))

    @cached_property
    def strata(self) -> NDArray[np.str_]:
        """(n,) stratum of each item: its task and answer form."""
        return np.char.add(np.char.add(self.tasks, ": "), self.forms)

    @cached_property
    def answer_strata(self) -> NDArray[np.str_]:
        """(n,) stratum and emitted answer of each item."""
        return np.char.add(np.char.add(self.strata, " = "), self.answers.astype(str))

    @cached_property
    def matched_strata(self) -> Mapping[str, NDArray[np.str_]]:
        """Scope → (n,) stratum and third of difficulty of each item."""
        return {scope: thirds_of(self.strata, values) for scope, values in self.difficulty.items()}

    @cached_property
    def scopes(self) -> Mapping[str, NDArray[np.bool_]]:
        """Name → (n,) items of the scopes that are subsets.

        Tasks; the strata of tasks that mix answer forms; answers within existence.
        """
        found = {task: self.tasks == task for task in self.task_names}
        for stratum in sorted(set(self.strata.tolist())):
            items = self.strata == stratum
            task = str(self.tasks[items][0])
            if items.sum() < found[task].sum():
                found[stratum] = items
        for answer in ("yes", "no"):
            items = (self.tasks == "existence") & (self.answers == answer)
            if items.any():
                found[f"answer_{answer}"] = items
        return found

    @cached_property
    def n_of_scope(self) -> Mapping[str, int]:
        """Items of each scope."""
        return {scope: int(chosen.sum()) for scope, chosen in self.scopes.items()}


def thirds_of(strata: NDArray[np.str_], values: NDArray[np.floating]) -> NDArray[np.str_]:
    """(n,) each stratum cut into thirds of a value; equal values are never parted.

    Args:
        strata: (n,) stratum of each item.
        values: (n,) NaN where not known: such items are a part of their own.
    """
    part = np.full(strata.size, -1)
    for stratum in np.unique(strata).tolist():
        here = (strata == stratum) & np.isfinite(values)
        if here.any():
            edges = np.quantile(values[here], [1 / 3, 2 / 3])
            part[here] = np.searchsorted(edges, values[here], side="right")
    return np.char.add(np.char.add(strata, " | "), part.astype(str))


def reliability_rows(
    predictor: str,
    value: NDArray[np.floating],
    items: EvaluationItems,
    *,
    layer: int = NOT_A_LAYER,
    higher_is_reliable: bool = True,
    correlation: bool = True,
    folds: NDArray[np.integer] | None = None,
) -> list[EstimateRow]:
    """AUROC and R of one value per item: within strata and answers, by task, and pooled.

    And of what stands for no layer: the prediction rejection ratio, and the accuracy where half,
    80% and 90% of the items are answered, the most confident first.

    Args:
        predictor: name of the signal or probe.
        value: (n,) NaN where missing; such items are dropped and counted.
        items: what it is judged on.
        layer: decoder layer, where there is one.
        higher_is_reliable: False turns the value round for AUROC, so that above 0.5 always means
            "as claimed"; R keeps the value's own sign, as published.
        correlation: whether R is wanted.
        folds: (n,) items are compared within a fold only: the scores of a probe come from as many
            fits as there are folds.

    AUROC ranks values that differ by rounding only as ties.
    """
    # Values equal up to rounding are ties: their order would depend on the batch plan.
    ranked = merge_near_ties(value)
    oriented = ranked if higher_is_reliable else -ranked
    rows = []
    parts = _aurocs(oriented, items, folds)
    if layer == NOT_A_LAYER:
        parts |= _within(oriented, items, folds, items.matched_strata)
    for scope, part in parts.items():
        p_equivalence = auroc_equivalence_p(part, margin=items.margins.auroc)
        rows.append(
            _row(predictor, layer, scope, "auroc", part, auroc_estimate(part), items, p_equivalence)
        )
    if layer == NOT_A_LAYER:
        rows += _bootstrap_rows(predictor, oriented, items, folds)
        rows += _selective_rows(predictor, oriented, items)
    if correlation:
        rows += _correlations(predictor, layer, value, items)
    return rows


def _aurocs(
    oriented: NDArray[np.floating], items: EvaluationItems, folds: NDArray[np.integer] | None
) -> dict[str, ClusteredEstimate]:
    """Scope → AUROC; the headline first."""
    everyone = np.ones(len(oriented), dtype=bool)
    parts = {
        scope: clustered_auroc(
            oriented[chosen], items.correct[chosen], items.groups[chosen],
            n_images=items.n_images, name=scope, folds=None if folds is None else folds[chosen],
        )
        for scope, chosen in {**items.scopes, POOLED: everyone}.items()
    }  # fmt: skip
    n_groups = n_kept_labels(items.groups, ~np.isnan(oriented))
    of_tasks = {task: parts[task] for task in items.task_names}
    headline = {WITHIN_STRATA: items.strata, WITHIN_ANSWERS: items.answer_strata}
    within = _within(oriented, items, folds, headline)
    return {**within, MACRO: mean_of(of_tasks, n_groups=n_groups), **parts}


def _within(
    oriented: NDArray[np.floating],
    items: EvaluationItems,
    folds: NDArray[np.integer] | None,
    strata_of: Mapping[str, NDArray[np.str_]],
) -> dict[str, ClusteredEstimate]:
    """Scope → AUROC within its strata."""
    return {
        scope: stratified_auroc(
            oriented, items.correct, items.groups, strata, n_images=items.n_images, folds=folds
        )
        for scope, strata in strata_of.items()
    }


def not_captured_rows(
    predictor: str, items: EvaluationItems, *, correlation: bool = True
) -> list[EstimateRow]:
    """The rows of a predictor whose inputs were not captured: no number, and why.

    Args:
        predictor: name of the signal or probe.
        items: what it would have been judged on.
        correlation: whether R would have been wanted.
    """
    asked = items.n_of_scope
    joint = (WITHIN_STRATA, WITHIN_ANSWERS, MACRO, POOLED)
    metrics: list[tuple[str, tuple[str, ...]]] = [("auroc", (*joint, *asked))]
    if correlation:
        metrics += [("r", (WITHIN_STRATA, POOLED, *items.task_names)), ("r_fisher", (POOLED,))]
    return [
        missing_row(predictor, scope, metric, n_dropped=asked.get(scope, len(items.correct)))
        for metric, scopes in metrics
        for scope in scopes
    ]


def missing_row(
    predictor: str, scope: str, metric: str, *, n_dropped: int, why: str = NOT_CAPTURED
) -> EstimateRow:
    """One row without a number, and why there is none."""
    nothing = undefined(n=0, n_groups=0, method="none", note=why)
    return estimate_row(predictor, scope, metric, nothing, n_dropped=n_dropped)


def with_reasons(rows: Iterable[EstimateRow], reasons: Iterable[str]) -> list[EstimateRow]:
    """Say in each row that dropped items why it did.

    Args:
        rows: of an estimates table.
        reasons: of every item that has no value; "" where none is known.
    """
    counts = Counter(reason for reason in reasons if reason)
    why = ", ".join(sorted(counts, key=lambda reason: (-counts[reason], reason)))
    return [
        _with_reason(row, why) if row["n_dropped"] and row["note"] != NOT_CAPTURED else row
        for row in rows
    ]


def _with_reason(row: EstimateRow, why: str) -> EstimateRow:
    known = row["note"] or ""
    if why and SIGNAL_MISSING in known:
        known = known.replace(SIGNAL_MISSING, why)
    elif why:
        known = "; ".join(part for part in (known, why) if part)
    return row | {"note": known or None}


def _bootstrap_rows(
    predictor: str,
    oriented: NDArray[np.floating],
    items: EvaluationItems,
    folds: NDArray[np.integer] | None,
) -> list[EstimateRow]:
    """The bootstrap's interval beside the analytic one, over tasks and pooled; no test."""
    rows = []
    scopes = {task: items.scopes[task] for task in items.task_names}
    for scope, chosen in {**scopes, POOLED: np.ones(len(oriented), dtype=bool)}.items():
        found = bootstrap_auroc(
            oriented[chosen],
            items.correct[chosen],
            items.groups[chosen],
            resamples=items.resamples,
            strata=None if folds is None else folds[chosen],
        )
        estimate = found.estimate()
        dropped = int(chosen.sum()) - estimate.n
        known = chosen & ~np.isnan(oriented)
        if reason := too_few(items.correct[known], items.groups[known]):
            note = join_notes(found.note, reason)
            estimate = undefined(
                n=found.n, n_groups=found.n_groups, method=estimate.method, note=note
            )
        rows.append(estimate_row(predictor, scope, "auroc_bootstrap", estimate, n_dropped=dropped))
    return rows


def _selective_rows(
    predictor: str, oriented: NDArray[np.floating], items: EvaluationItems
) -> list[EstimateRow]:
    """What answering the most confident items first gains, by task, stratum and pooled."""
    everyone = np.ones(len(oriented), dtype=bool)
    return [
        estimate_row(predictor, scope, metric, estimate, se=part.se, df=part.df)
        for scope, chosen in {**items.scopes, POOLED: everyone}.items()
        for metric, (part, estimate) in selective_estimates(
            oriented[chosen], items.correct[chosen], items.groups[chosen], n_images=items.n_images
        ).items()
    ]


def _correlations(
    predictor: str, layer: int, value: NDArray[np.floating], items: EvaluationItems
) -> list[EstimateRow]:
    none = (-items.margins.r, items.margins.r)
    everyone = np.ones(len(value), dtype=bool)
    tasks = {task: items.scopes[task] for task in items.task_names}
    rows = []
    for scope, chosen in {WITHIN_STRATA: everyone, POOLED: everyone, **tasks}.items():
        part = clustered_correlation(
            value[chosen], items.correct[chosen], items.groups[chosen],
            n_images=items.n_images, name=scope,
            strata=items.strata[chosen] if scope == WITHIN_STRATA else None,
        )  # fmt: skip
        p_equivalence = equivalence_p(part, low=none[0], high=none[1])
        estimate = correlation_estimate(part)
        rows.append(_row(predictor, layer, scope, "r", part, estimate, items, p_equivalence))
    # The papers' own interval beside the clustered one.
    fisher = point_biserial(value, items.correct)
    known = np.isfinite(value)
    fisher = fisher._replace(n_groups=n_kept_labels(items.groups, known))
    dropped = int((~known).sum())
    rows.append(estimate_row(predictor, POOLED, "r_fisher", fisher, layer=layer, n_dropped=dropped))
    return rows


def share_rows(
    predictor: str,
    metric: str,
    hits: NDArray[np.bool_],
    items: EvaluationItems,
    *,
    known: NDArray[np.bool_] | None = None,
) -> list[EstimateRow]:
    """A share of items (accuracy, parse rate …) in every scope, with clustered intervals.

    Args:
        predictor: whose share.
        metric: its name.
        hits: (n,) whether the item counts.
        items: the items.
        known: (n,) items that can be judged; the others are dropped and counted. None: all.
    """
    everyone = np.ones(len(hits), dtype=bool)
    known = everyone if known is None else known
    rows = []
    for scope, chosen in {**items.scopes, POOLED: everyone}.items():
        used = chosen & known
        if used.any():
            share = clustered_share(hits[used], items.groups[used], n_images=items.n_images)
            n_dropped = int(chosen.sum()) - share.n
            rows.append(estimate_row(predictor, scope, metric, share, n_dropped=n_dropped))
    return rows


def _row(
    predictor: str,
    layer: int,
    scope: str,
    metric: str,
    part: ClusteredEstimate,
    estimate: Estimate,
    items: EvaluationItems,
    p_equivalence: float,
) -> EstimateRow:
    asked = items.n_of_scope.get(scope, len(items.correct))
    return estimate_row(
        predictor, scope, metric, estimate,
        layer=layer, n_dropped=asked - part.n, p_equivalence=p_equivalence,
        se=part.test_se, df=part.df,
    )  # fmt: skip


def estimate_row(
    predictor: str,
    scope: str,
    metric: str,
    estimate: Estimate,
    *,
    layer: int = NOT_A_LAYER,
    n_dropped: int = 0,
    p_equivalence: float = math.nan,
    se: float = math.nan,
    df: float = math.nan,
) -> EstimateRow:
    """One row of an estimates table; what depends on the other rows comes with `adjusted`."""
    return {
        "predictor": predictor,
        "layer": layer,
        "scope": scope,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "se": se,
        "df": df,
        "p": estimate.p,
        "p_equivalence": p_equivalence,
        "n": estimate.n,
        "n_groups": estimate.n_groups,
        "n_dropped": n_dropped,
        "method": estimate.method,
        "note": estimate.note or None,
    }


def permutation_rows(
    predictor: str, areas: Sequence[float], observed: float, *, n: int, n_groups: int
) -> list[EstimateRow]:
    """Mean AUROC within strata over permutations of the labels, and the observed one's rank.

    Args:
        predictor: the probe fitted to permuted labels.
        areas: AUROC of each permutation; NaN where it is undefined.
        observed: AUROC under the true labels.
        n: items.
        n_groups: images.
    """
    known = np.array([area for area in areas if math.isfinite(area)])
    if known.size < 2:
        why = f"{known.size} permutations have an estimate"
        return [missing_row(predictor, WITHIN_STRATA, "auroc", n_dropped=n, why=why)]
    mean, se = float(known.mean()), float(known.std(ddof=1)) / math.sqrt(known.size)
    half = float(stats.t.ppf((1 + LEVEL) / 2, known.size - 1)) * se
    note = f"mean of {known.size} permutations, {known.min():.3f} to {known.max():.3f}"
    estimate = Estimate(mean, mean - half, mean + half, math.nan, n, n_groups, "permutations", note)
    rank = (1 + int((known >= observed).sum())) / (1 + known.size)
    return [
        estimate_row(predictor, WITHIN_STRATA, "auroc", estimate, se=se, df=known.size - 1),
        plain_row(predictor, WITHIN_STRATA, "rank_p", rank, n=n),
    ]


def plain_row(
    predictor: str, scope: str, metric: str, value: float, *, n: int, **more: Any
) -> EstimateRow:
    """A descriptive number without an interval."""
    nan = math.nan
    estimate = Estimate(value, nan, nan, nan, n, more.pop("n_groups", 0), "descriptive")
    return estimate_row(predictor, scope, metric, estimate, **more)


def adjusted(rows: Sequence[EstimateRow]) -> dict[str, list[Any]]:
    """Columns of an estimates table with what depends on all of its tests.

    Holm's correction is within each scope and metric, for differences and for equivalence alike;
    a predictor's rows layer by layer are a family of their own: a deep model would otherwise
    weaken what is said of the named predictors. The smallest resolvable effect is that of the
    strictest test of the family, at 80% power.
    """
    families: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        if math.isfinite(row["p"]) or math.isfinite(row["p_equivalence"]):
            family = (row["scope"], row["metric"], row["layer"] != NOT_A_LAYER)
            families.setdefault(family, []).append(index)
    new = {
        name: [math.nan] * len(rows)
        for name in ("p_adjusted", "p_equivalence_adjusted", "resolvable")
    }
    for members in families.values():
        for name in ("p", "p_equivalence"):
            values = holm([rows[index][name] for index in members])
            for index, value in zip(members, values, strict=True):
                new[f"{name}_adjusted"][index] = float(value)
        n_tests = max(1, sum(math.isfinite(rows[index]["p"]) for index in members))
        for index in members:
            row = rows[index]
            new["resolvable"][index] = smallest_resolvable(
                row["se"], row["df"], alpha=ALPHA / n_tests
            )
    return {**{key: [row[key] for row in rows] for key in rows[0]}, **new}

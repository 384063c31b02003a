"""Rows of the estimates tables: how well one value per item tells right answers from wrong ones."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from vrp.config.margins import EquivalenceMargins
from vrp.stats.auroc import bootstrap_auroc, delong
from vrp.stats.bootstrap import BootstrapEstimate, Resamples, macro_average, resample_groups
from vrp.stats.correlation import bootstrap_point_biserial, point_biserial
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import SIGNAL_MISSING, Estimate, n_kept_labels, undefined
from vrp.stats.multiplicity import holm
from vrp.stats.paired import bootstrap_difference
from vrp.stats.ties import merge_near_ties
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import NOT_A_LAYER

EstimateRow = dict[str, Any]


@dataclass(frozen=True)
class EvaluationItems:
    """The items that predictors are evaluated on, with their resampled images."""

    correct: NDArray[np.bool_]
    """(n,) whether the greedy answer is right."""
    tasks: NDArray[np.str_]
    """(n,) task of each item."""
    answers: NDArray[np.object_]
    """(n,) parsed answer: yes and no are scopes of their own for existence items."""
    groups: NDArray[np.int64]
    """(n,) image of each item, numbered in the order of their names."""
    resamples: Resamples
    """Shared by every statistic, which makes them joint."""
    margins: EquivalenceMargins
    """Margins of the equivalence tests."""

    @classmethod
    def from_frame(
        cls, frame: pl.DataFrame, *, seed: int, n_boot: int, margins: EquivalenceMargins
    ) -> "EvaluationItems":
        """Take the rows of the signals table (columns correct, task, answer, group)."""
        # Numbers sort as the names do, and a hundred times faster.
        groups = frame["group"].rank("dense").to_numpy().astype(np.int64) - 1
        return cls(
            correct=frame["correct"].to_numpy(),
            tasks=frame["task"].to_numpy().astype(str),
            answers=frame["answer"].to_numpy(),
            groups=groups,
            resamples=resample_groups(groups, seed=f"{seed}/reliability", n_boot=n_boot),
            margins=margins,
        )

    @cached_property
    def task_names(self) -> list[str]:
        """Tasks of the items, sorted."""
        return sorted(set(self.tasks.tolist()))

    @cached_property
    def scopes(self) -> Mapping[str, NDArray[np.bool_]]:
        """Name → (n,) items of the scopes that are subsets: tasks, and answers within existence."""
        found = {task: self.tasks == task for task in self.task_names}
        for answer in ("yes", "no"):
            items = (self.tasks == "existence") & (self.answers == answer)
            if items.any():
                found[f"answer_{answer}"] = items
        return found

    @cached_property
    def n_of_scope(self) -> Mapping[str, int]:
        """Items of each scope."""
        return {scope: int(chosen.sum()) for scope, chosen in self.scopes.items()}

    @cached_property
    def task_codes(self) -> NDArray[np.int64]:
        """(n,) tasks as numbers, in the order of their names."""
        return np.unique(self.tasks, return_inverse=True)[1].astype(np.int64)


def reliability_rows(
    predictor: str,
    value: NDArray[np.floating],
    items: EvaluationItems,
    *,
    layer: int = NOT_A_LAYER,
    higher_is_reliable: bool = True,
    correlation: bool = True,
    strata: NDArray[np.integer] | None = None,
) -> list[EstimateRow]:
    """AUROC and R of one value per item, within each task, macro-averaged, and pooled.

    Args:
        predictor: name of the signal or probe.
        value: (n,) NaN where missing; such items are dropped and counted.
        items: what it is judged on.
        layer: decoder layer, where there is one.
        higher_is_reliable: False turns the value round for AUROC, so that above 0.5 always means
            "as claimed"; R keeps the value's own sign, as published.
        correlation: whether R is wanted.
        strata: (n,) items are compared within a stratum only: the folds of a probe, whose scores
            come from as many fits as there are folds.

    The pooled AUROC compares items of different tasks too; the pooled R is centred within task
    under scope `pooled_within`, plain under `pooled` (as the papers report it). AUROC ranks values
    that differ by rounding only as ties.
    """
    # Values equal up to rounding are ties: their order would depend on the batch plan.
    ranked = merge_near_ties(value)
    oriented = ranked if higher_is_reliable else -ranked
    parts = _within(bootstrap_auroc, oriented, items, strata)
    parts["pooled"] = bootstrap_auroc(
        oriented, items.correct, items.groups, resamples=items.resamples, strata=strata
    )
    rows = [
        _row(predictor, layer, scope, "auroc", part, items, null=0.5, margin=items.margins.chance)
        for scope, part in parts.items()
    ]
    if layer == NOT_A_LAYER:
        rows += _delong_rows(predictor, oriented, items, strata)
    if correlation:
        rows += _correlations(predictor, layer, value, items)
    return rows


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
    metrics = [("auroc", (*asked, "macro", "pooled"))]
    if correlation:
        metrics += [("r", (*asked, "macro", "pooled", "pooled_within")), ("r_fisher", ("pooled",))]
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


def _delong_rows(
    predictor: str,
    oriented: NDArray[np.floating],
    items: EvaluationItems,
    strata: NDArray[np.integer] | None,
) -> list[EstimateRow]:
    """DeLong's interval with clustered variance, beside the bootstrap's; no test of its own."""
    rows = []
    for scope, chosen in {**items.scopes, "pooled": np.ones(len(oriented), dtype=bool)}.items():
        estimate = delong(
            oriented[chosen],
            items.correct[chosen],
            groups=items.groups[chosen],
            strata=None if strata is None else strata[chosen],
        )
        dropped = int(chosen.sum()) - estimate.n
        rows.append(
            estimate_row(
                predictor, scope, "auroc_delong", estimate._replace(p=math.nan), n_dropped=dropped
            )
        )
    return rows


def _correlations(
    predictor: str, layer: int, value: NDArray[np.floating], items: EvaluationItems
) -> list[EstimateRow]:
    none = (-items.margins.r, items.margins.r)
    parts = _within(bootstrap_point_biserial, value, items)
    for scope, strata in (("pooled", None), ("pooled_within", items.task_codes)):
        parts[scope] = bootstrap_point_biserial(
            value, items.correct, items.groups, resamples=items.resamples, strata=strata
        )
    rows = [
        _row(predictor, layer, scope, "r", part, items, null=0.0, margin=none)
        for scope, part in parts.items()
    ]
    # The papers' own interval beside the clustered one.
    fisher = point_biserial(value, items.correct)
    known = np.isfinite(value)
    fisher = fisher._replace(n_groups=n_kept_labels(items.groups, known))
    dropped = int((~known).sum())
    rows.append(
        estimate_row(predictor, "pooled", "r_fisher", fisher, layer=layer, n_dropped=dropped)
    )
    return rows


def _within(
    statistic: Any,
    value: NDArray[np.floating],
    items: EvaluationItems,
    strata: NDArray[np.integer] | None = None,
) -> dict[str, BootstrapEstimate]:
    """The statistic in every scope that is a subset, and its macro average over tasks."""
    parts: dict[str, BootstrapEstimate] = {
        scope: statistic(
            value[chosen],
            items.correct[chosen],
            items.groups[chosen],
            resamples=items.resamples,
            strata=None if strata is None else strata[chosen],
        )
        for scope, chosen in items.scopes.items()
    }
    n_groups = n_kept_labels(items.groups, ~np.isnan(value))
    of_tasks = {task: parts[task] for task in items.task_names}
    return {**parts, "macro": macro_average(of_tasks, n_groups=n_groups)}


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
    for scope, chosen in {**items.scopes, "pooled": everyone}.items():
        used = chosen & known
        if used.any():
            part = _share(hits[used], items.groups[used], items.resamples)
            rows.append(_row(predictor, NOT_A_LAYER, scope, metric, part, items, null=None))
    return rows


def _share(
    hits: NDArray[np.bool_], groups: NDArray[np.int64], resamples: Resamples
) -> BootstrapEstimate:
    percent = bootstrap_difference(np.zeros(len(hits)), hits, groups, resamples=resamples)
    return percent._replace(value=percent.value / 100, replicates=percent.replicates / 100)


def _row(
    predictor: str,
    layer: int,
    scope: str,
    metric: str,
    part: BootstrapEstimate,
    items: EvaluationItems,
    *,
    null: float | None,
    margin: tuple[float, float] | None = None,
) -> EstimateRow:
    p = p_equivalence = math.nan
    if null is not None and math.isfinite(part.value) and (se := part.se) > 0:
        # From the standard error, as the equivalence test: counting replicates cannot go below
        # 2 / (replicates + 1), which no Holm correction over many predictors survives.
        p = 2 * float(norm.sf(abs(part.value - null) / se))
    if margin is not None:
        p_equivalence = equivalence_p(part, low=margin[0], high=margin[1])
    asked = items.n_of_scope.get(scope, len(items.correct))
    return estimate_row(
        predictor,
        scope,
        metric,
        part.estimate()._replace(p=p),
        layer=layer,
        n_dropped=asked - part.n,
        p_equivalence=p_equivalence,
    )


def estimate_row(
    predictor: str,
    scope: str,
    metric: str,
    estimate: Estimate,
    *,
    layer: int = NOT_A_LAYER,
    n_dropped: int = 0,
    p_equivalence: float = math.nan,
) -> EstimateRow:
    """One row of an estimates table; the adjusted p-value comes with `adjusted`."""
    return {
        "predictor": predictor,
        "layer": layer,
        "scope": scope,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "p_equivalence": p_equivalence,
        "n": estimate.n,
        "n_groups": estimate.n_groups,
        "n_dropped": n_dropped,
        "method": estimate.method,
        "note": estimate.note or None,
    }


def plain_row(
    predictor: str, scope: str, metric: str, value: float, *, n: int, **more: Any
) -> EstimateRow:
    """A descriptive number without an interval."""
    nan = math.nan
    estimate = Estimate(value, nan, nan, nan, n, more.pop("n_groups", 0), "descriptive")
    return estimate_row(predictor, scope, metric, estimate, **more)


def adjusted(rows: Sequence[EstimateRow]) -> dict[str, list[Any]]:
    """Columns of an estimates table with Holm's correction within each scope and metric.

    A predictor's rows layer by layer are a family of their own: a deep model would otherwise
    weaken what is said of the named predictors.
    """
    families: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        if math.isfinite(row["p"]):
            family = (row["scope"], row["metric"], row["layer"] != NOT_A_LAYER)
            families.setdefault(family, []).append(index)
    p_adjusted = [math.nan] * len(rows)
    for members in families.values():
        values = holm([rows[index]["p"] for index in members])
        for index, value in zip(members, values, strict=True):
            p_adjusted[index] = float(value)
    return {**{key: [row[key] for row in rows] for key in rows[0]}, "p_adjusted": p_adjusted}

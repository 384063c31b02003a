"""Two models, or one model in two studies, compared on the questions that both were asked."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.estimates.reported import ReportedEstimate, corrected
from vrp.signals.registry import SIGNALS
from vrp.stats.auroc import stratified_auroc
from vrp.stats.clusters import (
    ClusteredEstimate,
    difference,
    group_sums,
    mean_of,
    numbered,
    smallest_resolvable,
)
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import ALPHA, Estimate
from vrp.stats.paired import (
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
)
from vrp.tables.captured import is_captured
from vrp.tables.estimates import MACRO
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table, strata_of

_PROBES = ("linear_best", "fusion")
"""Probes that are compared beside the deployable signals, where both studies have them."""
_SAME = ("group", "task", "form")
_EVERYTHING = "all items"


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
    """B − A: percentage points of accuracy, or AUROC within strata."""


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
    accuracies: tuple[Difference, ...]
    """By task, their mean, and over all items."""
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
    first: Side, second: Side, *, margin_pp: float = 2.0, margin_auroc: float = math.nan
) -> PairedComparison:
    """Compare B with A, item by item, clustered by image.

    Args:
        first: A.
        second: B.
        margin_pp: differences of accuracy within ± this many percentage points count as none.
        margin_auroc: the same of AUROCs; NaN: equivalence is not tested.

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
    right, right_of_b = both["correct"].to_numpy(), both["correct of B"].to_numpy()
    return PairedComparison(
        first.name, second.name, len(both), n_images,
        (len(first.rows) - len(both), len(second.rows) - len(both)),
        float((right != right_of_b).mean()), margin_pp,
        _accuracies(both["task"].to_numpy(), right, right_of_b, codes, n_images, margin_pp),
        _aurocs(both, codes, n_images, margin_auroc),
    )  # fmt: skip


def _accuracies(
    tasks: NDArray[np.object_],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    codes: NDArray[np.int64],
    n_images: int,
    margin: float,
) -> tuple[Difference, ...]:
    places = {str(task): tasks == task for task in dict.fromkeys(sorted(tasks.tolist()))}
    places[_EVERYTHING] = np.ones(tasks.size, dtype=bool)
    parts: dict[str, ClusteredEstimate] = {
        name: paired_difference(
            first[here], second[here], codes[here], n_images=n_images, name=name
        )
        for name, here in places.items()
    }
    of_tasks = {name: part for name, part in parts.items() if name != _EVERYTHING}
    if len(of_tasks) > 1:
        parts[MACRO] = mean_of(of_tasks, n_groups=n_images)
        places[MACRO] = places[_EVERYTHING]

    def mean(values: NDArray[np.bool_], name: str) -> float:
        if name == MACRO:
            return float(np.mean([values[places[task]].mean() for task in of_tasks]))
        return float(values[places[name]].mean())

    def p_of(name: str) -> float:
        if name == MACRO:
            return parts[name].p_against(0.0)
        here = places[name]
        change = second[here].astype(np.float64) - first[here]
        return sign_flip_test(group_sums(change, codes[here]), seed=f"compare/{name}")

    gaps = {
        name: _reported(
            part, paired_estimate(part)._replace(p=p_of(name)),
            paired_equivalence_p(part, margin=margin),
        )
        for name, part in parts.items()
    }  # fmt: skip
    return tuple(
        Difference(name, 100 * mean(first, name), 100 * mean(second, name), gap)
        for name, gap in corrected(gaps).items()
    )


def _aurocs(
    both: pl.DataFrame, codes: NDArray[np.int64], n_images: int, margin: float
) -> tuple[Difference, ...]:
    strata = strata_of(both).to_numpy()
    found: dict[str, tuple[float, float]] = {}
    gaps: dict[str, ReportedEstimate] = {}
    for name in (*(s.name for s in SIGNALS.values() if s.deployable), *_PROBES):
        pair = []
        for suffix in ("", " of B"):
            column = f"{name}{suffix}"
            if column not in both.columns or not is_captured(both[column]):
                break
            values = both[column].to_numpy().astype(np.float64)
            low = name in SIGNALS and SIGNALS[name].reliable_when == "low"
            pair.append(
                stratified_auroc(
                    -values if low else values, both[f"correct{suffix}"].to_numpy(), codes,
                    strata, n_images=n_images, folds=_folds(both, name, suffix),
                )
            )  # fmt: skip
        if len(pair) == 2 and all(part.defined for part in pair):
            found[name] = pair[0].value, pair[1].value
            gap = difference(pair[1], pair[0])
            equivalent = equivalence_p(gap, low=-margin, high=margin) if margin > 0 else math.nan
            gaps[name] = _reported(gap, gap.estimate("clustered-delong", null=0.0), equivalent)
    return tuple(Difference(name, *found[name], gap) for name, gap in corrected(gaps).items())


def _folds(both: pl.DataFrame, name: str, suffix: str) -> NDArray[np.int64] | None:
    """Folds of one side's probe, whose scores come from another fit in each; None for a signal."""
    if name in SIGNALS:
        return None
    return both[f"fold{suffix}"].fill_null(-1).to_numpy().astype(np.int64)


def _reported(
    part: ClusteredEstimate, estimate: Estimate, p_equivalence: float
) -> ReportedEstimate:
    return ReportedEstimate.from_estimate(estimate)._replace(
        se=part.se, p_equivalence=p_equivalence,
        resolvable=smallest_resolvable(part.se, part.df, alpha=ALPHA),
    )  # fmt: skip

"""Paired differences of AUROC: of the best probe, of every predictor and simple baselines, and of
what might be recommended and the best of all."""

import math
from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_kind
from vrp.estimates.reported import ReportedEstimate, corrected
from vrp.probing.labels import (
    BLIND_LINEAR_BEST,
    LINEAR_BEST,
    OUTPUT_FUSION,
    OUTPUT_FUSION_WITH_PROBE,
)
from vrp.signals.registry import SIGNALS
from vrp.stats.auroc import (
    auroc_difference,
    clustered_auroc,
    difference_equivalence_p,
    stratified_auroc,
)
from vrp.stats.clusters import (
    ClusteredEstimate,
    difference,
    numbered,
    smallest_resolvable,
)
from vrp.stats.estimate import ALPHA
from vrp.tables.signals import strata_of

# A task's own rate says nothing within the task: it is compared over all items.
TASK_ONLY = "task_only"
OUTPUT_SIGNALS = ("self_consistency", "token_confidence", "logit_entropy", "decision_margin")
BASELINES = ("question_only", "answer_only")
"""Predictors that see neither image nor model."""
_RIVALS = ("margin_only", "fusion", *BASELINES, BLIND_LINEAR_BEST, TASK_ONLY)


def probe_contrasts(
    signals: pl.DataFrame, predictions: pl.DataFrame
) -> dict[str, ReportedEstimate]:
    """Best probe's AUROC minus each rival's, on the items that both have.

    Scores of different folds come from different fits, so that both sides compare items within a
    fold only, and within strata (`task_only`: all tasks together). Intervals are joint, clustered
    by image; p is against no difference, after Holm's correction over the rivals.

    Args:
        signals: rows of the signals table.
        predictions: rows of the predictions table.

    Returns:
        rival → difference; empty where the best probe was not fitted.
    """
    joined = _joined(signals, predictions)
    if LINEAR_BEST not in joined.columns:
        return {}
    rivals = _oriented(joined)
    found = {}
    for name, values in rivals.items():
        number = _contrast(
            joined, LINEAR_BEST, values, pooled=name == TASK_ONLY, n_tests=len(rivals)
        )
        if number is not None:
            found[name] = number
    return corrected(found)


def baseline_contrasts(
    signals: pl.DataFrame, predictions: pl.DataFrame
) -> dict[tuple[str, str], ReportedEstimate]:
    """AUROC of every signal and probe minus that of baselines that see only question or answer.

    As in `probe_contrasts`. A predictor whose values fall with correctness is turned round, so that
    what it tells counts whichever way it points.

    Args:
        signals: rows of the signals table.
        predictions: rows of the predictions table.

    Returns:
        (predictor, baseline) → difference; empty where no baseline was fitted.
    """
    joined = _joined(signals, predictions)
    found = {}
    for baseline in BASELINES:
        if baseline not in joined.columns:
            continue
        rival = joined[baseline].to_numpy().astype(np.float64)
        for name in _predictors(predictions):
            number = _contrast(joined, name, rival, either_way=True)
            if number is not None:
                found[name, baseline] = number
    return found


def against(
    signals: pl.DataFrame, predictions: pl.DataFrame, best: str, others: Iterable[str]
) -> dict[str, ReportedEstimate]:
    """AUROC of some predictors minus that of one of a higher AUROC, on the items of both.

    Args:
        signals: rows of the signals table.
        predictions: rows of the predictions table; where there are none, nothing is compared.
        best: the predictor of the higher AUROC.
        others: the predictors that are compared with it; those of neither table are left out.
    """
    joined = _joined(signals, predictions)
    if joined.is_empty() or best not in joined.columns:
        return {}
    values = _values(joined, best)
    numbers = {name: _contrast(joined, name, values) for name in others if name in joined.columns}
    return {name: number for name, number in numbers.items() if number is not None}


def _predictors(predictions: pl.DataFrame) -> list[str]:
    """Every signal, and the probes that are no guards, in the order of their names."""
    probes = sorted(predictions["probe"].unique().to_list())
    return [*SIGNALS, *(name for name in probes if predictor_kind(name) != "guards")]


def beyond_output(
    signals: pl.DataFrame, predictions: pl.DataFrame, *, margin: float
) -> ReportedEstimate | None:
    """What hidden states add to the output: AUROC of the fusion of output signals with the best
    probe, minus without, within strata and fold; None where they were not fitted.

    Args:
        signals: rows of the signals table.
        predictions: rows of the predictions table.
        margin: increments of AUROC within ± this count as none.
    """
    joined = _joined(signals, predictions)
    if not {OUTPUT_FUSION, OUTPUT_FUSION_WITH_PROBE} <= set(joined.columns):
        return None
    without = joined[OUTPUT_FUSION].to_numpy().astype(np.float64)
    return _contrast(joined, OUTPUT_FUSION_WITH_PROBE, without, margin=margin)


def _joined(signals: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    scores = predictions.pivot("probe", index=("item_id", "fold"), values="score")
    judged = signals.drop_nulls("correct")
    return judged.join(scores, on="item_id", how="inner").sort("item_id")


def _oriented(joined: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Rival → (n,) values of which higher should mean right."""
    names = (*OUTPUT_SIGNALS, *_RIVALS)
    return {name: _values(joined, name) for name in names if name in joined.columns}


def _values(joined: pl.DataFrame, name: str) -> NDArray[np.float64]:
    values = joined[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    low = name in SIGNALS and SIGNALS[name].reliable_when == "low"
    return -values if low else values


def _contrast(
    joined: pl.DataFrame,
    name: str,
    rival: NDArray[np.float64],
    *,
    pooled: bool = False,
    margin: float = math.nan,
    n_tests: int = 1,
    either_way: bool = False,
) -> ReportedEstimate | None:
    probe = _values(joined, name)
    kept = np.isfinite(probe) & np.isfinite(rival)
    if not kept.any():
        return None
    some = joined.filter(kept)
    codes, n_images = numbered(some["group"].to_numpy())
    correct, folds = some["correct"].to_numpy(), some["fold"].to_numpy()
    strata = strata_of(some).to_numpy()

    def auroc(values: NDArray[np.float64]) -> ClusteredEstimate:
        if pooled:
            return clustered_auroc(
                values, correct, codes, n_images=n_images, name="pooled", folds=folds
            )
        return stratified_auroc(values, correct, codes, strata, n_images=n_images, folds=folds)

    own = auroc(probe[kept])
    if either_way and own.value < 0.5:
        own = auroc(-probe[kept])
    other = auroc(rival[kept])
    gap = difference(own, other)
    number = ReportedEstimate.from_estimate(auroc_difference(own, other))
    resolvable = smallest_resolvable(gap.se, gap.df, alpha=ALPHA / n_tests)
    equivalent = math.nan
    if math.isfinite(margin):
        equivalent = difference_equivalence_p(own, other, margin=margin)
    return number._replace(
        se=gap.se, resolvable=resolvable, n_dropped=int((~kept).sum()),
        p_equivalence=equivalent, p_equivalence_adjusted=equivalent,
    )  # fmt: skip

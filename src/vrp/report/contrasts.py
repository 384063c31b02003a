"""Paired differences of AUROC between the best probe and its rivals."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.probing.labels import BLIND_LINEAR_BEST, LINEAR_BEST
from vrp.report.numbers import ReportedEstimate
from vrp.signals.registry import SIGNALS
from vrp.stats.auroc import bootstrap_auroc
from vrp.stats.bootstrap import BootstrapEstimate, difference, macro_average, resample_groups
from vrp.stats.multiplicity import holm

# A task's own rate says nothing within the task: it is compared over all items.
TASK_ONLY = "task_only"
OUTPUT_SIGNALS = ("self_consistency", "token_confidence", "logit_entropy", "decision_margin")
_RIVALS = (
    "margin_only", "fusion", "question_only", "answer_only", BLIND_LINEAR_BEST, TASK_ONLY,
)  # fmt: skip
_N_BOOT = 1000


def probe_contrasts(
    signals: pl.DataFrame, predictions: pl.DataFrame
) -> dict[str, ReportedEstimate]:
    """Best probe's AUROC minus each rival's, on the items that both have.

    Scores of different folds come from different fits, so that both sides compare items within a
    fold only; then the mean over tasks (`task_only`: all tasks together). Intervals resample
    images jointly; p is against no difference, after Holm's correction over the rivals.

    Args:
        signals: rows of the signals table.
        predictions: rows of the predictions table.

    Returns:
        rival → difference; empty where the best probe was not fitted.
    """
    scores = predictions.pivot("probe", index=("item_id", "fold"), values="score")
    if LINEAR_BEST not in scores.columns:
        return {}
    judged = signals.drop_nulls("correct")
    joined = judged.join(scores, on="item_id", how="inner").sort("item_id")
    rivals = _oriented(joined)
    found = {}
    for name, values in rivals.items():
        number = _contrast(joined, values, pooled=name == TASK_ONLY)
        if number is not None:
            found[name] = number
    return _corrected(found)


def _oriented(joined: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Rival → (n,) values of which higher should mean right."""
    found = {}
    for name in (*OUTPUT_SIGNALS, *_RIVALS):
        if name in joined.columns:
            values = joined[name].to_numpy().astype(np.float64)
            low = name in SIGNALS and SIGNALS[name].reliable_when == "low"
            found[name] = -values if low else values
    return found


def _contrast(
    joined: pl.DataFrame, rival: NDArray[np.float64], *, pooled: bool
) -> ReportedEstimate | None:
    probe = joined[LINEAR_BEST].to_numpy().astype(np.float64)
    kept = np.isfinite(probe) & np.isfinite(rival)
    if not kept.any():
        return None
    some = joined.filter(kept)
    # The same seed for every rival: draws are shared where the items are the same.
    groups = some["group"].to_numpy().astype(str)
    resamples = resample_groups(groups, seed="report/contrasts", n_boot=_N_BOOT)

    correct, folds = some["correct"].to_numpy(), some["fold"].to_numpy()
    tasks = some["task"].to_numpy()

    def auroc_of(values: NDArray[np.float64], here: NDArray[np.bool_]) -> BootstrapEstimate:
        return bootstrap_auroc(
            values[here], correct[here], groups[here], resamples=resamples, strata=folds[here]
        )

    def auroc(values: NDArray[np.float64]) -> BootstrapEstimate:
        if pooled:
            return auroc_of(values, np.ones(len(values), dtype=bool))
        parts = {task: auroc_of(values, tasks == task) for task in sorted(set(tasks))}
        return macro_average(parts, n_groups=len(set(groups)))

    gap = difference(auroc(probe[kept]), auroc(rival[kept]))
    number = ReportedEstimate.from_estimate(gap.estimate(null=0.0))
    return number._replace(n_dropped=int((~kept).sum()))


def _corrected(found: Mapping[str, ReportedEstimate]) -> dict[str, ReportedEstimate]:
    adjusted = holm([number.p_adjusted for number in found.values()])
    return {
        name: number._replace(p_adjusted=float(p))
        for (name, number), p in zip(found.items(), adjusted, strict=True)
    }

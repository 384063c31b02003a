"""Correlations over all models together, centred within model and task."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from vrp.report.numbers import ReportedEstimate
from vrp.stats.bootstrap import resample_groups
from vrp.stats.correlation import bootstrap_point_biserial
from vrp.tables.captured import NOT_CAPTURED

POOLED_SIGNALS = ("cluster_count_dbscan", "spatial_entropy", "self_consistency")
_N_BOOT = 1000


def pooled_over_models(signals: Mapping[str, pl.DataFrame]) -> dict[str, ReportedEstimate]:
    """R of C_k, H_s and S_SC over the items of all models.

    Both sides are centred within model × task, so that neither a better model nor an easier task
    makes a correlation; images are resampled with all their items and models.

    A model without a signal is left out of its correlation; a signal that no model has is said to
    be not captured.

    Args:
        signals: model → rows of its signals table.
    """
    frames = [
        frame.select(
            "group", "correct", *POOLED_SIGNALS, stratum=pl.lit(model) + "/" + pl.col("task")
        )
        for model, every in signals.items()
        if len(frame := every.drop_nulls("correct"))
    ]
    if not frames:
        return {}
    together = pl.concat(frames)
    # An image drawn takes its items of all models along: their errors are not independent.
    groups = together["group"].to_numpy().astype(str)
    resamples = resample_groups(groups, seed="report/pooled", n_boot=_N_BOOT)
    found = {}
    for name in POOLED_SIGNALS:
        values = together[name].to_numpy().astype(np.float64)
        if together[name].null_count() == len(together):
            found[name] = ReportedEstimate(np.nan, note=NOT_CAPTURED, n_dropped=len(together))
            continue
        estimate = bootstrap_point_biserial(
            values, together["correct"].to_numpy(), groups,
            resamples=resamples, strata=together["stratum"].to_numpy().astype(str),
        ).estimate(null=0.0)  # fmt: skip
        found[name] = ReportedEstimate.from_estimate(estimate)._replace(
            n_dropped=int(np.isnan(values).sum())
        )
    return found

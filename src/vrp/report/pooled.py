"""Correlations over all models together, centred within model, task and answer form."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from vrp.estimates.reported import ReportedEstimate
from vrp.stats.clusters import numbered
from vrp.stats.correlation import clustered_correlation, correlation_estimate
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.signals import strata_of

POOLED_SIGNALS = ("cluster_count_dbscan", "spatial_entropy", "self_consistency")


def pooled_over_models(signals: Mapping[str, pl.DataFrame]) -> dict[str, ReportedEstimate]:
    """R of C_k, H_s and S_SC over the items of all models.

    Both sides are centred within model × task × answer form, so that neither a better model nor an
    easier task makes a correlation; an image counts once, with its items of all models.

    A model without a signal is left out of its correlation; a signal that no model has is said to
    be not captured.

    Args:
        signals: model → rows of its signals table.
    """
    frames = [
        frame.select(
            "group", "correct", *POOLED_SIGNALS,
            stratum=pl.lit(f"{model}: ") + strata_of(frame),
        )
        for model, every in signals.items()
        if len(frame := every.drop_nulls("correct"))
    ]  # fmt: skip
    if not frames:
        return {}
    together = pl.concat(frames)
    codes, n_images = numbered(together["group"].to_numpy())
    found = {}
    for name in POOLED_SIGNALS:
        values = together[name].to_numpy().astype(np.float64)
        if together[name].null_count() == len(together):
            found[name] = ReportedEstimate(np.nan, note=NOT_CAPTURED, n_dropped=len(together))
            continue
        estimate = correlation_estimate(clustered_correlation(
            values, together["correct"].to_numpy(), codes, n_images=n_images, name="pooled",
            strata=together["stratum"].to_numpy(),
        ))  # fmt: skip
        found[name] = ReportedEstimate.from_estimate(estimate)._replace(
            n_dropped=int(np.isnan(values).sum())
        )
    return found

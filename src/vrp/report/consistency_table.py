"""Self-consistency as sampled, compared with the exact distribution over answers."""

from collections.abc import Sequence

import polars as pl

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.numbers import NONE, decimal, thousands
from vrp.report.tabular import Cell, Table, estimate_cell, missing, name_cell
from vrp.stats.clusters import clustered_mean, numbered

_COLUMNS = [
    "model", "items", "close draws", "S_SC, sampled", "expected S_SC, exact", "sampled − exact",
    "probability not explored, %", "AUROC, sampled", "AUROC, exact",
]  # fmt: skip


def sampled_against_exact(models: Sequence[ModelEvidence]) -> Table:
    """One row a model; the difference has no noise but that of the K samples."""
    return Table(_COLUMNS, [_row(model) for model in models if len(model.consistency)])


def mean_difference(consistency: pl.DataFrame) -> ReportedEstimate:
    """Mean over items of sampled S_SC minus the middle of its exact bounds, clustered by image.

    Args:
        consistency: columns self_consistency, expected_consistency_low and _high, group; rows
            without a followed distribution are left out.
    """
    known = consistency.drop_nulls("expected_consistency_low")
    low, high, sampled = (
        known[name].cast(pl.Float64).to_numpy()
        for name in (
            "expected_consistency_low", "expected_consistency_high", "self_consistency",
        )
    )  # fmt: skip
    codes, n_images = numbered(known["group"].to_numpy())
    mean = clustered_mean(sampled - (low + high) / 2, codes, n_images=n_images)
    return ReportedEstimate.from_estimate(mean.estimate("clustered-t"))


def _row(model: ModelEvidence) -> list[Cell]:
    # An item without finite logits has no samples; it is left out, and counted in "items".
    table = model.consistency.filter(pl.col("self_consistency").is_finite())
    if table.is_empty():
        return [name_cell(model.name), Cell("0"), *[Cell(NONE)] * (len(_COLUMNS) - 2)]
    known = table.drop_nulls("expected_consistency_low")
    sampled = decimal(float(table["self_consistency"].cast(pl.Float64).mean()), 3)  # type: ignore[arg-type]
    close = thousands(int(table["close_draws"].sum()))
    first = [name_cell(model.name), Cell(thousands(len(table))), Cell(close), Cell(sampled)]
    aurocs = [
        estimate_cell(model.auroc(name))
        for name in ("self_consistency", "expected_self_consistency")
    ]
    if known.is_empty():
        return [*first, missing(), Cell(NONE), Cell(NONE), aurocs[0], missing()]
    low, high, unresolved = (
        float(known[name].cast(pl.Float64).mean())  # type: ignore[arg-type]
        for name in ("expected_consistency_low", "expected_consistency_high", "unresolved")
    )
    bounds = f"[{decimal(low, 4)}, {decimal(high, 4)}]"
    return [
        *first,
        Cell(decimal((low + high) / 2, 3), bounds),
        estimate_cell(mean_difference(table), 4, signed=True),
        Cell(decimal(100 * unresolved, 2)),
        *aurocs,
    ]

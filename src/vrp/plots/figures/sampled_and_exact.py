"""Sampled self-consistency against its exact expectation."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from vrp.plots.panels import (
    add_key,
    dot_key,
    interval_dot,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLUE, GREY
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.consistency import CONSISTENCY

ORDER = 105
TITLE = "Self-consistency as sampled, against its exact expectation"
CAPTION = (
    "Items in ten equal parts by the expected S_SC that follows from the exact distribution over "
    "answers; for each part, the mean of the sampled S_SC with a 95% interval. On the dotted line "
    "the samples show what the distribution says; the distance of single items from it is the "
    "noise that K samples add."
)
_BOUNDS = ("expected_consistency_low", "expected_consistency_high")
_CONSISTENCY = CONSISTENCY.only("self_consistency", *_BOUNDS)
TABLES = (_CONSISTENCY,)

_PARTS = 10
_SCHEMA = {"expected": pl.Float64, "mean": pl.Float64, "se": pl.Float64, "n": pl.UInt32}


def draw(study: StudyResults) -> Figure:
    """Draw the mean sampled S_SC by parts of the expected one."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, y_labels=[r"mean sampled $S_\mathrm{SC}$"]
    )
    for model, (ax,) in columns:
        known = _known(model)
        if known.is_empty():
            not_run(ax)
            continue
        low = float(np.floor(10 * min(known["expected"].min(), known["sampled"].min())) / 10)  # type: ignore[type-var,operator,arg-type]
        ax.plot([low, 1], [low, 1], color=GREY, linestyle=":", linewidth=1.2)
        for expected, mean, se, _ in parts(known).iter_rows():
            half = 1.96 * (se or 0.0)
            interval_dot(
                ax, expected, mean, mean - half, mean + half, colour=BLUE, horizontal=False
            )
        ax.set_xlabel(r"expected $S_\mathrm{SC}$, exact")
        noise = float((known["sampled"] - known["expected"]).std() or 0.0)  # type: ignore[arg-type]
        note(ax, f"K samples add ±{noise:.3f} an item")
    keys = [
        dot_key("a tenth of the items", BLUE),
        line_key("sampled = expected", GREY, linestyle=":"),
    ]
    add_key(figure, keys)
    return figure


def parts(known: pl.DataFrame) -> pl.DataFrame:
    """Means of equal parts by `expected`: columns expected, mean, se, n, ascending.

    Items of equal expectation stay together, so there may be fewer parts.
    """
    cut = (known["expected"].rank("max") - 1) * _PARTS // len(known)
    grouped = (
        known.with_columns(part=cut.cast(pl.Int64))
        .group_by("part")
        .agg(
            expected=pl.col("expected").mean(),
            mean=pl.col("sampled").mean(),
            se=pl.col("sampled").std() / pl.len().sqrt(),
            n=pl.len(),
        )
    )
    return grouped.sort("expected").select(*_SCHEMA).cast(_SCHEMA)  # type: ignore[arg-type]


def _known(model: ModelResults) -> pl.DataFrame:
    """Columns expected and sampled of the items whose distribution was followed."""
    return (
        model.table(_CONSISTENCY)
        .drop_nulls("expected_consistency_low")
        .select(
            expected=sum(pl.col(bound).cast(pl.Float64) for bound in _BOUNDS) / 2,
            sampled=pl.col("self_consistency").cast(pl.Float64),
        )
        .sort("expected", "sampled")
    )

"""Sampled self-consistency against its exact expectation."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from vrp.plots.layer_values import mean_intervals
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counted,
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
from vrp.tables.items import ITEMS

ORDER = 105
TITLE = "Self-consistency: sampled value against exact expectation"
CAPTION = (
    "Items in ten equal parts by their expected S_SC, computed from the exact distribution over "
    "answers; for each part, the mean of the sampled S_SC with a 95% interval clustered by image. "
    "On the dotted line, samples agree with the distribution. The distance of single items from "
    "the line is the noise of K samples."
)
_BOUNDS = ("expected_consistency_low", "expected_consistency_high")
_CONSISTENCY = CONSISTENCY.only("self_consistency", *_BOUNDS)
_ITEMS = ITEMS.only("group")
TABLES = (_CONSISTENCY, _ITEMS)

_PARTS = 10
_PART, _NOISE = "mean sampled S_SC", "noise of an item"
_COLUMNS = {"model": TEXT, "quantity": TEXT, "expected": NUMBER, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return the mean sampled S_SC by parts of the expected one, and the samples' noise."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        known = _known(study, model)
        if known.is_empty():
            continue
        rows += [{"model": model.name, "quantity": _PART, **part} for part in parts(known)]
        noise = (known["sampled"] - known["expected"]).std()
        counts = {"n": len(known), "images": known["group"].n_unique()}
        rows.append({"model": model.name, "quantity": _NOISE, "value": noise, **counts})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw the mean sampled S_SC by parts of the expected one."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, y_labels=[r"mean sampled $S_\mathrm{SC}$"]
    )
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
            continue
        tenths = own.filter(quantity=_PART)
        low = math.floor(10 * float(tenths.select("expected", "value").to_numpy().min())) / 10
        ax.plot([low, 1], [low, 1], color=GREY, linestyle=":")
        for row in tenths.iter_rows(named=True):
            interval_dot(
                ax, row["expected"], row["value"], row["low"], row["high"], colour=BLUE,
                horizontal=False,
            )  # fmt: skip
        ax.set_xlabel(r"expected $S_\mathrm{SC}$, exact")
        noise = own.filter(quantity=_NOISE).row(0, named=True)
        counts = counted(noise["n"], noise["images"])
        note(ax, f"K samples add ±{noise['value'] or 0.0:.3f} an item; {counts}")
    keys = [
        dot_key("a tenth of the items, 95% interval", BLUE),
        line_key("sampled = expected", GREY, linestyle=":"),
    ]
    add_key(figure, keys)
    return figure


def parts(known: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the mean sampled S_SC of equal parts by the expected one, ascending.

    Items of equal expectation stay together, so there may be fewer parts.

    Args:
        known: columns expected, sampled and group (image).
    """
    cut = (known["expected"].rank("max") - 1) * _PARTS // len(known)
    for own in known.with_columns(part=cut).sort("part").partition_by("part", maintain_order=True):
        mean = mean_intervals(own["sampled"].to_numpy()[:, None], own["group"].to_numpy())[0]
        yield {"expected": own["expected"].mean(), **mean}


def _known(study: StudyResults, model: ModelResults) -> pl.DataFrame:
    """Columns expected, sampled and group of the items whose distribution was followed."""
    return (
        model.table(_CONSISTENCY)
        .drop_nulls("expected_consistency_low")
        .join(study.table(_ITEMS), on="item_id")
        .select(
            "group",
            expected=sum(pl.col(bound).cast(pl.Float64) for bound in _BOUNDS) / 2,
            sampled=pl.col("self_consistency").cast(pl.Float64),
        )
        .sort("expected", "sampled", "group")
    )

"""Calibration of the probes' probabilities."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    from_zero,
    interval_dot,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLACK, BLUE, GREY
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.probing.labels import LINEAR_BEST
from vrp.stats.calibration import calibration
from vrp.stats.clusters import numbered
from vrp.stats.proportion import clustered_share
from vrp.study.results import StudyResults
from vrp.tables.predictions import PREDICTIONS

ORDER = 120
TITLE = "Are the predicted probabilities of a right answer calibrated?"
CAPTION = (
    "Share of right answers against the mean predicted probability, in ten bins of equal width, "
    "with 95% intervals clustered by image; below, the share of items in each bin. Dots on the "
    "diagonal are calibrated; ECE is the mean distance from it. All probabilities are for images "
    "that the probe was not fitted on."
)
TABLES = (PREDICTIONS, *ANSWERED)


class _Probe(NamedTuple):
    """A probe whose probabilities are shown."""

    name: str
    label: str
    colour: str
    marker: str
    hollow: bool


_PROBES = (
    _Probe("fusion", "fusion of signals", BLACK, "s", True),
    _Probe(LINEAR_BEST, "linear probe", BLUE, "o", False),
)
_BIN, _ECE = "share right", "ECE"
_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT, "quantity": TEXT, "bin_low": NUMBER,
    "bin_high": NUMBER, "predicted": NUMBER, **INTERVAL, "share_of_items": NUMBER,
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """Return the bins of the reliability diagrams, and each diagram's ECE."""
    rows = []
    for model in study.models:
        for probe in _PROBES:
            scores = model.table(PREDICTIONS).filter(
                pl.col("probe") == probe.name, pl.col("score").is_finite()
            )
            judged = answered_rows(study, model, scores)
            if len(judged):
                key = {"model": model.name, "predictor": probe.name, "label": probe.label}
                rows += [{**key, **mark} for mark in _diagram(judged)]
    return table_of_marks(rows, _COLUMNS)


def _diagram(judged: pl.DataFrame) -> list[dict[str, Any]]:
    scores = judged["score"].to_numpy().astype(np.float64)
    right, (images, n_images) = judged["answered_right"].to_numpy(), numbered(judged["group"])
    result = calibration(scores, right)
    counts = {"n": result.n, "images": n_images}
    marks: list[dict[str, Any]] = []
    for one in result.bins:
        here = (scores <= one.edge_high) & ((scores > one.edge_low) | (one.edge_low == 0))
        found = clustered_share(right[here], images[here], n_images=n_images)
        marks.append(
            {
                "quantity": _BIN, "bin_low": one.edge_low, "bin_high": one.edge_high,
                "predicted": one.confidence, **dict(zip(INTERVAL, found[:3], strict=False)),
                "n": one.n, "images": found.n_groups, "share_of_items": one.n / result.n,
            }
        )  # fmt: skip
    return [*marks, {"quantity": _ECE, "value": result.ece, **counts}]


def draw(study: StudyResults) -> Figure:
    """Draw reliability diagrams of the fusion and of a hidden-state probe."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.8, 1.3], share_y=True, share_x="all",
        y_labels=["share right", "share of items"],
    )  # fmt: skip
    for model, (above, below) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(above)
            not_run(below)
        else:
            _draw_model(above, below, own)
    from_zero([below for _, (_, below) in columns])
    shown = set(marks["predictor"])
    keys = [
        dot_key(f"{probe.label}, 95% interval", probe.colour, marker=probe.marker,
                hollow=probe.hollow)
        for probe in _PROBES if probe.name in shown
    ]  # fmt: skip
    add_key(figure, [*keys, line_key("calibrated", GREY, linestyle=":")] if keys else [])
    return figure


def _draw_model(above: Axes, below: Axes, marks: pl.DataFrame) -> None:
    above.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    for probe in _PROBES:
        bins = marks.filter(predictor=probe.name, quantity=_BIN)
        for row in bins.drop_nulls("value").iter_rows(named=True):
            interval_dot(
                above, row["predicted"], row["value"], row["low"], row["high"],
                colour=probe.colour, marker=probe.marker, hollow=probe.hollow, horizontal=False,
            )  # fmt: skip
        if len(bins):
            edges = [bins["bin_low"][0], *bins["bin_high"]]
            style = "--" if probe.hollow else "-"
            below.stairs(bins["share_of_items"], edges, color=probe.colour, linestyle=style)
    errors = marks.filter(quantity=_ECE)
    words = (f"{row['label'].split()[0]} {row['value']:.3f}" for row in errors.to_dicts())
    note(above, f"ECE: {', '.join(words)}; {counts_of(errors)}")
    above.set_xlim(-0.02, 1.02)
    above.set_ylim(-0.02, 1.02)
    above.tick_params(labelbottom=False)
    below.set_xlabel("predicted probability")

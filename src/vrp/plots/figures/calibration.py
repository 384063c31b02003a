"""Calibration of the probes' probabilities."""

from typing import NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.plots.panels import (
    add_key,
    dot_key,
    from_zero,
    interval_dot,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLACK, BLUE, GREY
from vrp.probing.labels import LINEAR_BEST
from vrp.stats.calibration import Calibration, calibration
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.answers import ANSWERS
from vrp.tables.predictions import PREDICTIONS

ORDER = 120
TITLE = "Whether predicted probabilities of a right answer hold"
CAPTION = (
    "Share right against the mean predicted probability, in ten bins of equal width, with Wilson "
    "95% intervals; below, the share of items in each bin. Dots on the diagonal are calibrated; "
    "ECE is the mean distance from it. All probabilities are for images that the probe was not "
    "fitted on."
)
_ANSWERS = ANSWERS.only("correct")
TABLES = (_ANSWERS, PREDICTIONS)


class _Probe(NamedTuple):
    """A probe whose probabilities are shown."""

    name: str
    label: str
    colour: str


_PROBES = (
    _Probe("fusion", "fusion of signals", BLACK),
    _Probe(LINEAR_BEST, "linear probe", BLUE),
)


def draw(study: StudyResults) -> Figure:
    """Draw reliability diagrams of the fusion and of a hidden-state probe."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.8, 1.3], share_y=True, share_x="all",
        y_labels=["share right", "share of items"],
    )  # fmt: skip
    shown: dict[_Probe, None] = {}
    for model, (above, below) in columns:
        found = _calibrations(model)
        if not found:
            not_run(above)
            not_run(below)
            continue
        shown |= dict.fromkeys(found)
        _draw_model(above, below, found)
    from_zero([below for _, (_, below) in columns])
    keys = [dot_key(probe.label, probe.colour) for probe in shown]
    add_key(figure, [*keys, line_key("calibrated", GREY, linestyle=":")] if keys else [])
    return figure


def _calibrations(model: ModelResults) -> dict[_Probe, Calibration]:
    found: dict[_Probe, Calibration] = {}
    for probe in _PROBES:
        scores = model.table(PREDICTIONS).filter(
            pl.col("probe") == probe.name, pl.col("score").is_finite()
        )
        joined = scores.join(model.table(_ANSWERS).drop_nulls("correct"), on="item_id")
        if len(joined):
            found[probe] = calibration(joined["score"], joined["correct"])
    return found


def _draw_model(above: Axes, below: Axes, found: dict[_Probe, Calibration]) -> None:
    above.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2)
    for probe, result in found.items():
        _draw_bins(above, below, result, probe.colour)
    errors = (f"{probe.label.split()[0]} {result.ece:.3f}" for probe, result in found.items())
    note(above, f"ECE: {', '.join(errors)}")
    above.set_xlim(-0.02, 1.02)
    above.set_ylim(-0.02, 1.02)
    above.tick_params(labelbottom=False)
    below.set_xlabel("predicted probability")


def _draw_bins(above: Axes, below: Axes, result: Calibration, colour: str) -> None:
    for b in result.bins:
        if b.n:
            interval_dot(
                above, b.confidence, b.accuracy, b.low, b.high, colour=colour, horizontal=False
            )
    edges = [result.bins[0].edge_low, *(b.edge_high for b in result.bins)]
    below.stairs([b.n / result.n for b in result.bins], edges, color=colour, linewidth=1.5)

"""Risk–coverage curves: errors left when the least confident items are not answered."""

from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_label
from vrp.plots.panels import absence, from_zero, model_panels, not_run, note
from vrp.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, with_symbols
from vrp.probing.labels import LINEAR_BEST
from vrp.signals.registry import SIGNALS
from vrp.stats.risk_coverage import risk_coverage
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

ORDER = 110
TITLE = "What abstaining buys: errors left when only the most confident items are answered"
CAPTION = (
    "Share wrong among the most confident items, by the share of items that is answered; to the "
    "right, all are answered and every curve ends at the model's error rate. Lower is better, and "
    "AURC (mean risk over coverage) sums a curve up; a flat curve is a confidence that knows "
    "nothing. Probes are scored on images they were not fitted on; the first 5% are left out as "
    "noise."
)

_FIRST_COVERAGE = 0.05
_POINTS = 300  # of a curve, so that files stay small
_PROBES = (("fusion", BLACK, "-"), (LINEAR_BEST, BLUE, "-"))
_CURVES = (
    ("decision_margin", GREEN, "-"),
    ("self_consistency", PURPLE, "-"),
    ("token_confidence", ORANGE, "-"),
    ("logit_entropy", VERMILLION, "--"),
    ("spatial_entropy", GREY, "--"),
)
_TABLE = signal_table().only("correct", *(name for name, _, _ in _CURVES))
TABLES = (_TABLE, PREDICTIONS)


class _Confidence(NamedTuple):
    """A confidence per item, larger meaning more likely right."""

    predictor: str
    values: NDArray[np.float64]
    correct: NDArray[np.bool_]
    colour: str
    linestyle: str


def draw(study: StudyResults) -> Figure:
    """Draw risk–coverage curves of fusion, a probe and the main deployable signals."""
    figure, columns = model_panels(
        study, TITLE, heights=[4.2], key_lines=0, share_y=True, y_labels=["share wrong among them"]
    )
    for model, (ax,) in columns:
        found = _confidences(model)
        if not found:
            not_run(ax)
            continue
        for confidence in found:
            _draw_curve(ax, confidence)
        error = 1 - float(found[0].correct.mean())
        note(ax, f"all items answered: {100 * error:.1f}% wrong")
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of items answered")
        ax.legend(
            loc="upper left", bbox_to_anchor=(-0.02, -0.2), title="AURC", title_fontsize=8,
            alignment="left", labelspacing=0.3, borderaxespad=0,
        )  # fmt: skip
    from_zero([ax for _, (ax,) in columns])
    return figure


def _confidences(model: ModelResults) -> list[_Confidence]:
    signals = model.table(_TABLE).drop_nulls("correct")
    if signals.is_empty():
        return []
    correct = signals["correct"].to_numpy()
    found = []
    for name, colour, linestyle in _CURVES:
        if absence(signals, name) is None:
            values = signals[name].to_numpy().astype(np.float64)
            turned = -values if SIGNALS[name].reliable_when == "low" else values
            found.append(_Confidence(name, turned, correct, colour, linestyle))
    return [*_probe_confidences(model), *found]


def _probe_confidences(model: ModelResults) -> list[_Confidence]:
    found: list[_Confidence] = []
    for name, colour, linestyle in _PROBES:
        scores = model.table(PREDICTIONS).filter(probe=name)
        if scores.is_empty():
            continue
        # Items without a score stay: they come last, as the least confident.
        joined = (
            model.table(_TABLE)
            .select("item_id", "correct")
            .drop_nulls()
            .join(scores.select("item_id", "score"), on="item_id", how="left")
        )
        values = joined["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        correct = joined["correct"].to_numpy()
        found.append(_Confidence(name, values, correct, colour, linestyle))
    return found


def _draw_curve(ax: Axes, confidence: _Confidence) -> None:
    curve = risk_coverage(confidence.values, confidence.correct)
    first = int(np.searchsorted(curve.coverage, _FIRST_COVERAGE))
    chosen = np.unique(np.linspace(first, len(curve.risk) - 1, _POINTS).round().astype(int))
    label = f"{curve.aurc:.3f}  {with_symbols(predictor_label(confidence.predictor))}"
    ax.plot(
        curve.coverage[chosen], curve.risk[chosen], color=confidence.colour, linewidth=1.6,
        linestyle=confidence.linestyle, label=label,
    )  # fmt: skip

"""Risk–coverage curves: errors left when the least confident items are not answered."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_label
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    absence,
    add_key,
    counts_of,
    from_zero,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    size_in_force,
    with_symbols,
)
from vrp.probing.labels import LINEAR_BEST
from vrp.signals.registry import SIGNALS, registered_signals
from vrp.stats.clusters import numbered
from vrp.stats.proportion import share_estimate
from vrp.stats.selective import accuracies_within
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.estimates import WITHIN_STRATA
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table, strata_of

ORDER = 110
TITLE = "Abstention: errors left when only the most confident items are answered"
CAPTION = (
    "Share of wrong answers among the most confident items of each stratum (task × form of the "
    "answer), by the share that is answered, with 95% intervals clustered by image. At the right "
    "end all items are answered, and every curve reaches the model's error rate. Lower is better; "
    "AURC is the mean risk over coverage. A flat curve is an uninformative confidence. Probes are "
    "scored on images that they were not fitted on. Confidence is compared within a stratum here; "
    "one threshold for all items, as in the decision, also uses that some tasks are easier, and "
    "usually leaves fewer errors."
)

COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""Shares of the items answered at which the risk is drawn."""


class _Look(NamedTuple):
    """How a predictor is drawn."""

    predictor: str
    colour: str
    linestyle: str
    marker: str


_PROBES = (_Look("fusion", BLACK, "-", "s"), _Look(LINEAR_BEST, BLUE, "-", "o"))
_SIGNALS = (
    _Look("decision_margin", GREEN, "-.", "^"),
    _Look("self_consistency", PURPLE, "--", "D"),
    _Look("token_confidence", ORANGE, "-", "v"),
    _Look("logit_entropy", VERMILLION, ":", "P"),
    _Look("spatial_entropy", GREY, "--", "X"),
)
_MORE = ((SKY, "-.", "<"), (DARK_GREY, ":", ">"))
_RISK, _AURC = "risk", "AURC"
_COLUMNS = {
    "model": TEXT, "predictor": TEXT, "label": TEXT, "quantity": TEXT, "stratum": TEXT,
    "coverage": NUMBER, **INTERVAL,
}  # fmt: skip


def _signal_looks() -> list[_Look]:
    """The main signals, and those that extensions add."""
    more = [name for name in registered_signals() if SIGNALS[name].deployable]
    looks = itertools.cycle(_MORE)
    return [*_SIGNALS, *(_Look(name, *look) for name, look in zip(more, looks, strict=False))]


TABLES = (signal_table(), PREDICTIONS)


def data(study: StudyResults) -> pl.DataFrame:
    """Return the risk within strata by coverage, and each curve's AURC."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        judged = model.table(signal_table()).drop_nulls("correct")
        for predictor, confidence in _confidences(model, judged).items():
            key = {"model": model.name, "predictor": predictor,
                   "label": predictor_label(predictor), "stratum": WITHIN_STRATA}  # fmt: skip
            rows += [{**key, **mark} for mark in _curve(confidence, judged)]
    return table_of_marks(rows, _COLUMNS)


def _curve(confidence: NDArray[np.float64], judged: pl.DataFrame) -> Iterator[dict[str, Any]]:
    images, n_images = numbered(judged["group"])
    found = accuracies_within(
        confidence, judged["correct"], images, strata_of(judged), COVERAGES, n_images=n_images
    )
    for coverage, part in zip(COVERAGES, found.accuracies, strict=True):
        accuracy = share_estimate(part)
        yield {
            "quantity": _RISK, "coverage": coverage, "value": 1 - accuracy.value,
            "low": 1 - accuracy.high, "high": 1 - accuracy.low,
            "n": part.n, "images": part.n_groups,
        }  # fmt: skip
    yield {"quantity": _AURC, "value": found.aurc, "n": len(judged), "images": n_images}


def _confidences(model: ModelResults, judged: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Predictor → confidence of each judged item, larger meaning more likely right."""
    found = {}
    for look in _PROBES if len(judged) else ():
        scores = model.table(PREDICTIONS).filter(probe=look.predictor)
        if len(scores):
            # Items without a score stay: they come last, as the least confident.
            joined = judged.select("item_id").join(
                scores.select("item_id", "score"), on="item_id", how="left", maintain_order="left"
            )
            found[look.predictor] = joined["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    for look in _signal_looks() if len(judged) else ():
        if absence(judged, look.predictor) is None:
            values = judged[look.predictor].cast(pl.Float64).fill_null(np.nan).to_numpy()
            falls = SIGNALS[look.predictor].reliable_when == "low"
            found[look.predictor] = -values if falls else values
    return found


def draw(study: StudyResults) -> Figure:
    """Draw risk–coverage curves of fusion, a probe and the main deployable signals."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[4.0], share_y=True, y_labels=["share wrong among them"]
    )
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
        else:
            _draw_model(ax, own)
    from_zero([ax for _, (ax,) in columns])
    shown = set(marks["predictor"])
    keys = [
        line_key(with_symbols(predictor_label(look.predictor)), look.colour,
                 linestyle=look.linestyle, marker=look.marker)
        for look in (*_PROBES, *_signal_looks()) if look.predictor in shown
    ]  # fmt: skip
    add_key(figure, keys)
    return figure


def _draw_model(ax: Axes, marks: pl.DataFrame) -> None:
    entries = []
    for look in (*_PROBES, *_signal_looks()):
        rows = marks.filter(predictor=look.predictor, quantity=_RISK)
        if rows.is_empty():
            continue
        line = marks_ribbon(
            ax, rows, "coverage", colour=look.colour, alpha=0.1, linestyle=look.linestyle,
            marker=look.marker, markevery=4,
        )  # fmt: skip
        area = marks.filter(predictor=look.predictor, quantity=_AURC)["value"][0]
        line.set_label(f"{area:.3f}")
        entries.append(line)
    whole = marks.filter(quantity=_RISK, coverage=1.0)
    counts = counts_of(whole)
    note(ax, f"{100 * whole['value'][0]:.1f}% wrong when all are answered; {counts}")
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("share of items answered")
    size = size_in_force()
    below = ScaledTranslation(0, -3.6 * size.text / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(0, 0), title=_AURC,
        bbox_transform=ax.transAxes + below, alignment="left", labelspacing=0.2,
        ncols=2 if size.side_by_side > 1 else 4, columnspacing=0.8, handlelength=1.6,
        handletextpad=0.3, borderaxespad=0,
    )  # fmt: skip

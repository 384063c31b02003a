"""Accuracy by agreement of the sampled answers."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    area_key,
    counts_of,
    dot_key,
    from_zero,
    interval_dot,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLUE, GREY, INK, SKY
from vrp.stats.clusters import numbered
from vrp.stats.proportion import clustered_share
from vrp.study.results import StudyResults
from vrp.tables.signals import signal_table

ORDER = 100
TITLE = "How often the answer is right when sampled answers agree"
CAPTION = (
    "Above: accuracy of the greedy answer among items at each level of self-consistency (share of "
    "the majority among K sampled answers). Below: share of the items at that level. 95% intervals "
    "are clustered by image. Above the dotted line, answers are right more often than the samples "
    "agree."
)
_SIGNALS = signal_table().only("self_consistency", "correct", "group")
TABLES = (_SIGNALS,)

_BAR = 0.06
_ACCURACY, _SHARE = "accuracy", "share of items"
_COLUMNS = {"model": TEXT, "quantity": TEXT, "level": NUMBER, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return accuracy and share of the items at each level of S_SC, ascending."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        judged = model.table(_SIGNALS).drop_nulls("correct")
        # Levels are rounded, as they are stored in float32.
        level = pl.col("self_consistency").cast(pl.Float64).round(4)
        scored = judged.filter(level.is_finite()).with_columns(level=level)
        images, n_images = numbered(scored["group"])
        for one in scored["level"].unique().sort():
            here = (scored["level"] == one).to_numpy()
            right = scored["correct"].to_numpy()[here].astype(bool)
            shares = (
                (_ACCURACY, clustered_share(right, images[here], n_images=n_images)),
                (_SHARE, clustered_share(here, images, n_images=n_images)),
            )
            for quantity, found in shares:
                ends = dict(zip(INTERVAL, found[:3], strict=False))
                counts = {"n": found.n, "images": found.n_groups}
                key = {"model": model.name, "quantity": quantity, "level": one}
                rows.append({**key, **ends, **counts})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw accuracy and share of items by S_SC level."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.7, 1.4], share_y=True, y_labels=[_ACCURACY, _SHARE]
    )
    for model, (above, below) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(above)
            not_run(below)
            continue
        accuracy, share = (own.filter(quantity=quantity) for quantity in (_ACCURACY, _SHARE))
        above.plot([0, 1], [0, 1], color=GREY, linestyle=":")
        for row in accuracy.iter_rows(named=True):
            interval_dot(
                above, row["level"], row["value"], row["low"], row["high"], colour=BLUE,
                horizontal=False,
            )  # fmt: skip
        below.bar(share["level"], share["value"], _BAR, color=SKY)
        below.vlines(share["level"], share["low"], share["high"], color=INK, linewidth=0.8)
        above.set_ylim(-0.02, 1.02)
        above.set_xticks(np.arange(0, 1.01, 0.2))
        above.set_xlim(accuracy["level"][0] - 0.06, 1.06)
        above.tick_params(labelbottom=False)
        below.set_xlabel(r"self-consistency $S_\mathrm{SC}$")
        note(above, _words(accuracy, share))
    from_zero([below for _, (_, below) in columns])
    keys = [
        dot_key("accuracy at this level, 95% interval", BLUE),
        line_key(r"accuracy = $S_\mathrm{SC}$", GREY, linestyle=":"),
        area_key(_SHARE, SKY),
    ]
    add_key(figure, keys)
    return figure


def _words(accuracy: pl.DataFrame, share: pl.DataFrame) -> str:
    counts = counts_of(share)
    if accuracy["level"][-1] < 1:
        return f"samples never all agree; {counts}"
    all_agree, right = share["value"][-1], accuracy["value"][-1]
    return (
        f"all agree on {100 * all_agree:.0f}% of items; {100 * right:.0f}% of them right; {counts}"
    )

"""Accuracy by agreement of the sampled answers."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from vrp.plots.panels import (
    add_key,
    area_key,
    dot_key,
    from_zero,
    interval_dot,
    line_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLUE, GREY, SKY
from vrp.stats.proportion import wilson
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.signals import signal_table

ORDER = 100
TITLE = "How often the answer is right when sampled answers agree"
CAPTION = (
    "Above: accuracy of the greedy answer among items at each level of self-consistency (share of "
    "the majority among K sampled answers), with Wilson 95% intervals that take items as "
    "independent. Below: share of the items at that level. Dots above the dotted line are right "
    "more often than the samples agree."
)
_SIGNALS = signal_table().only("self_consistency", "correct")
TABLES = (_SIGNALS,)

_BAR = 0.06


def draw(study: StudyResults) -> Figure:
    """Draw accuracy and share of items by S_SC level."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.7, 1.3], share_y=True, y_labels=["accuracy", "share of items"]
    )
    for model, (above, below) in columns:
        levels = _levels(model)
        if levels.is_empty():
            not_run(above)
            not_run(below)
            continue
        above.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2)
        for level, n, n_right in levels.iter_rows():
            found = wilson(n_right, n)
            interval_dot(
                above, level, found.value, found.low, found.high, colour=BLUE, horizontal=False
            )
        below.bar(levels["level"], levels["n"] / levels["n"].sum(), _BAR, color=SKY)
        above.set_ylim(-0.02, 1.02)
        above.set_xticks(np.arange(0, 1.01, 0.2))
        above.set_xlim(levels["level"][0] - 0.06, 1.06)
        above.tick_params(labelbottom=False)
        below.set_xlabel(r"self-consistency $S_\mathrm{SC}$")
        note(above, _unanimous_note(levels))
    from_zero([below for _, (_, below) in columns])
    keys = [
        dot_key("accuracy at this level", BLUE),
        line_key(r"accuracy = $S_\mathrm{SC}$", GREY, linestyle=":"),
        area_key("share of items", SKY),
    ]
    add_key(figure, keys)
    return figure


def _levels(model: ModelResults) -> pl.DataFrame:
    """Columns level, n, n_right, ascending; levels are rounded, as they are stored in float32."""
    judged = model.table(_SIGNALS).drop_nulls("correct")
    scored = judged.filter(pl.col("self_consistency").is_finite())
    levels = scored.group_by(level=pl.col("self_consistency").cast(pl.Float64).round(4)).agg(
        n=pl.len(), n_right=pl.col("correct").sum()
    )
    return levels.sort("level")


def _unanimous_note(levels: pl.DataFrame) -> str:
    level, n, n_right = levels.row(-1)
    if level < 1:
        return "samples never all agree"
    share = n / levels["n"].sum()
    return f"all agree on {100 * share:.0f}% of items; {100 * n_right / n:.0f}% of them right"

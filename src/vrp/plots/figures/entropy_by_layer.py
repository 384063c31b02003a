"""Spatial entropy of attention, by layer."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.plots.layer_values import (
    BY_ANSWER,
    counts_note,
    draw_right_and_wrong,
    right_and_wrong,
    right_and_wrong_keys,
)
from vrp.plots.marks import of_model, table_of_marks
from vrp.plots.panels import (
    absence,
    add_key,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.signals.structural import attention_evolution, relative_spatial_entropy, spatial_entropy
from vrp.study.results import StudyResults
from vrp.tables.attention import ATTENTION

ORDER = 40
TITLE = "How concentrated attention to the image is, by layer"
CAPTION = (
    "Above: spatial entropy of the attention map as a share of its maximum, where 1 is uniform "
    "attention over the image. Below: its change from the previous layer. Means over strata, "
    "weighted alike for right and for wrong answers, with 95% intervals clustered by image. Where "
    "the curves coincide, attention looks the same in right and in wrong answers."
)
_ATTENTION = ATTENTION.only("grid_h", "grid_w", "maps")
TABLES = (_ATTENTION, *ANSWERED)

_QUANTITIES = ("entropy / maximum", "change, nats")
_ITEMS_A_STACK = 256  # items whose maps are in memory as float64 at a time


def data(study: StudyResults) -> pl.DataFrame:
    """Return H_s / log S and ΔH_s by layer, of right answers and of wrong ones."""
    rows: list[dict[str, Any]] = []
    for model in study.models:
        frame = answered_rows(study, model, model.table(_ATTENTION))
        if absence(frame, "maps"):
            continue
        for quantity, values in zip(_QUANTITIES, _entropies(frame), strict=True):
            rows += right_and_wrong(model.name, quantity, values, frame)
    return table_of_marks(rows, BY_ANSWER)


def draw(study: StudyResults) -> Figure:
    """Draw both by layer, right answers against wrong ones."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.6, 2.1], share_y=True, y_labels=_QUANTITIES
    )
    for model, (above, below) in columns:
        if reason := absence(answered_rows(study, model, model.table(_ATTENTION)), "maps"):
            not_run(above, reason)
            not_run(below, reason)
            continue
        for ax, quantity in zip((above, below), _QUANTITIES, strict=True):
            own = of_model(marks, model.name).filter(quantity=quantity)
            draw_right_and_wrong(ax, own)
            layer_axis(ax, int(own["layer"].to_numpy().max()) + 1, label=ax is below)
            if ax is above:
                note(ax, counts_note(own))
        zero_line(below)
    add_key(figure, right_and_wrong_keys())
    return figure


def _entropies(frame: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """H_s / log S and ΔH_s, (n_items, n_layers) each; NaN where a map is unusable."""
    n_layers = len(frame["maps"][0])
    relative, change = np.full((2, len(frame), n_layers), np.nan)
    n_cells = (frame["grid_h"] * frame["grid_w"]).to_numpy()
    for size in np.unique(n_cells):
        members = np.flatnonzero(n_cells == size)
        for start in range(0, len(members), _ITEMS_A_STACK):
            some = members[start : start + _ITEMS_A_STACK]
            cells = frame["maps"][some].explode().explode().to_numpy().astype(np.float64)
            maps = cells.reshape(len(some), n_layers, int(size))
            relative[some] = relative_spatial_entropy(maps)
            change[some] = attention_evolution(spatial_entropy(maps))
    return relative, change

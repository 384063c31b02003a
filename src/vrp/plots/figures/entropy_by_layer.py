"""Spatial entropy of attention, by layer."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.plots.layer_values import counts_note, draw_right_and_wrong, right_and_wrong_keys
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
    "Above: spatial entropy of the attention map as a share of its maximum, 1 for attention spread "
    "evenly over the image. Below: its change from the layer before. Means over items with 95% "
    "image-clustered intervals; curves that lie on each other say that attention looks the same "
    "whether the answer is right or wrong."
)
_ATTENTION = ATTENTION.only("grid_h", "grid_w", "maps")
TABLES = (_ATTENTION, *ANSWERED)

_ITEMS_A_STACK = 256  # items whose maps are in memory as float64 at a time


def draw(study: StudyResults) -> Figure:
    """Draw H_s / log S and ΔH_s by layer, right answers against wrong ones."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.6, 2.1], share_y=True,
        y_labels=["entropy / maximum", "change, nats"],
    )  # fmt: skip
    for model, (above, below) in columns:
        frame = answered_rows(study, model, model.table(_ATTENTION))
        if reason := absence(frame, "maps"):
            not_run(above, reason)
            not_run(below, reason)
            continue
        relative, change = _entropies(frame)
        right, groups = frame["answered_right"].to_numpy(), frame["group"].to_numpy()
        draw_right_and_wrong(above, relative, right, groups)
        draw_right_and_wrong(below, change, right, groups)
        zero_line(below)
        note(above, counts_note(relative, right))
        layer_axis(above, relative.shape[1], label=False)
        layer_axis(below, relative.shape[1])
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

"""How concentrated attention is, layer by layer."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.plots.layer_values import counts_note, draw_right_and_wrong, right_and_wrong_keys
from vrp.plots.panels import (
    MAX_COLUMNS,
    absence,
    add_key,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.study_tables import StudyTables
from vrp.signals.structural import attention_evolution, relative_spatial_entropy, spatial_entropy

NAME = "entropy_by_layer"
ORDER = 40
TITLE = "How concentrated attention to the image is, by layer"
CAPTION = (
    "Above: spatial entropy of the attention map as a share of its maximum, 1 for attention spread "
    "evenly over the image. Below: its change from the layer before. Means over items with 95% "
    "image-clustered intervals; curves that lie on each other say that attention looks the same "
    "whether the answer is right or wrong."
)

_ITEMS_A_STACK = 256  # items whose maps are in memory as float64 at a time


def draw(study: StudyTables) -> Figure:
    """Draw H_s / log S and ΔH_s by layer, right answers against wrong ones."""
    drawn = model_panels(study, TITLE, heights=[2.6, 2.1], share_y=True)
    for place, (model, (above, below)) in enumerate(zip(study.models, drawn.columns, strict=True)):
        frame = study.judged(model, model.attention)
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
        if place % MAX_COLUMNS == 0:
            above.set_ylabel("entropy / maximum")
            below.set_ylabel("change, nats")
    add_key(drawn.figure, right_and_wrong_keys())
    return drawn.figure


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

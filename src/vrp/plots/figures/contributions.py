"""Contribution of attention and of the MLPs to the answer, by layer."""

import numpy as np
from matplotlib.figure import Figure

from vrp.plots.layer_values import by_layer
from vrp.plots.panels import (
    absence,
    add_key,
    area_key,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.style import ATTENTION, MLP
from vrp.signals.mechanistic import contribution_shares
from vrp.study.results import StudyResults
from vrp.tables.lens import LENS

ORDER = 80
TITLE = "Attention or MLP: what each layer adds to the answer's lead"
CAPTION = (
    "Share of the growth of the logit difference between the answer and its runner-up, from the "
    "embedding to the last layer; all bars of a model sum to 100%. Shares are ratios of sums over "
    "items; a bar below zero works against the answer that was given."
)
_CONTRIBUTIONS = ("attention_contribution", "mlp_contribution")
_LENS = LENS.only(*_CONTRIBUTIONS)
TABLES = (_LENS,)

_BAR = 0.4  # layers


def draw(study: StudyResults) -> Figure:
    """Draw attention's and the MLPs' share of the margin's growth by layer."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.9], share_y=True, y_labels=["share of the growth, %"]
    )
    for model, (ax,) in columns:
        lens = model.table(_LENS)
        if reason := absence(lens, *_CONTRIBUTIONS):
            not_run(ax, reason)
            continue
        shares = contribution_shares(*(by_layer(lens[name]) for name in _CONTRIBUTIONS))
        layers = np.arange(len(shares.mlp_by_layer))
        ax.bar(layers - _BAR / 2, 100 * shares.attention_by_layer, _BAR, color=ATTENTION)
        ax.bar(layers + _BAR / 2, 100 * shares.mlp_by_layer, _BAR, color=MLP)
        zero_line(ax)
        note(ax, f"in all: attention {100 * shares.attention:.0f}%, MLPs {100 * shares.mlp:.0f}%")
        layer_axis(ax, len(layers))
        ax.grid(visible=False, axis="x")
    add_key(figure, [area_key("attention", ATTENTION), area_key("MLP", MLP)])
    return figure

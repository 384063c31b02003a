"""Figures of one answer: attention on the image, and the logit lens by layer."""

import polars as pl
from matplotlib.figure import Figure
from PIL import Image

from vrp.plots.panels import layer_axis, zero_line
from vrp.plots.style import ATTENTION, DARK_GREY, INK, MLP, house_style

_MARGINS = (
    ("truth_margin", "truth margin", INK),
    ("decision_margin", "decision margin", DARK_GREY),
)
_PARTS = (("attention_contribution", "attention", ATTENTION), ("mlp_contribution", "MLP", MLP))


def draw_attention(image: Image.Image, attended: Image.Image, title: str, which: str) -> Figure:
    """Draw the image beside the image with its attention.

    Args:
        image: the image.
        attended: the same with attention as colour.
        title: above both.
        which: which layers the attention is of.
    """
    with house_style():
        figure = Figure(figsize=(6.4, 3.3), layout="constrained")
        for ax, shown, text in zip(
            figure.subplots(1, 2), (image, attended), ("image", f"attention, {which}"), strict=True
        ):
            ax.imshow(shown)
            ax.set_axis_off()
            ax.set_title(text)
        figure.suptitle(title)
    return figure


def draw_lens(lens: pl.DataFrame, title: str) -> Figure:
    """Draw the margins of every layer and, below, what attention and MLPs add to the logits.

    Args:
        lens: `layer` and those of the margins and contributions that were captured.
        title: above the panels.
    """
    rows = [
        (label, known)
        for label, columns in (("margin, logits", _MARGINS), ("contribution, logits", _PARTS))
        if (known := [column for column in columns if column[0] in lens.columns])
    ]
    with house_style():
        figure = Figure(figsize=(6.4, 0.6 + 2.1 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
        for ax, (label, columns) in zip(panels, rows, strict=True):
            zero_line(ax)
            for name, text, colour in columns:
                ax.plot(lens["layer"], lens[name], color=colour, marker="o", label=text)
            ax.set_ylabel(label)
            ax.legend(loc="best", frameon=False)
            layer_axis(ax, len(lens), label=ax is panels[-1])
        figure.suptitle(title)
    return figure

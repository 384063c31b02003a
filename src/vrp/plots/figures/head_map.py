"""Contribution of each attention head, and correlation of its entropy with correctness."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vrp.plots.panels import (
    absence,
    add_key,
    dot_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLACK, SMALL
from vrp.study.results import StudyResults
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import METRICS
from vrp.tables.heads import HEADS

ORDER = 60
TITLE = "Attention heads: what each adds to the answer, and what its entropy tells"
CAPTION = (
    "Above: mean direct contribution of each head to the logit difference of the answer and its "
    "runner-up. Below: correlation of the head's spatial entropy with a right answer, on the same "
    "scale for all models; dots mark the ten heads that contribute most, the ones that would have "
    "to tell if attention did."
)
TABLES = (HEADS, METRICS)

_MARKED = 10
_COLOURS = "RdBu"
_LEAST_R = 0.3  # correlations below it should look pale


def draw(study: StudyResults) -> Figure:
    """Draw layers × heads maps of contribution and of R(H_s)."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.7, 2.7], share_x="none", y_labels=["decoder layer"] * 2
    )
    correlations = [model.table(HEADS)["r_entropy"] for model in study.models]
    strongest = max(map(_largest, correlations), default=0.0)
    for model, (above, below) in columns:
        heads = model.table(HEADS)
        # Metrics, and yet no heads: they were not captured.
        nothing = NOT_CAPTURED if heads.is_empty() and len(model.table(METRICS)) else None
        for ax, column, unit in ((above, "contribution", "logits"), (below, "r_entropy", "R")):
            reason = absence(heads, column)
            if reason:
                not_run(ax, nothing or reason)
                continue
            largest = _largest(heads[column])
            limit = largest if ax is above else max(_LEAST_R, strongest)
            _draw_map(ax, heads, column, limit, unit)
            note(ax, _words(heads, column))
            ax.set_xlabel("head" if ax is below else "")
    dot = dot_key(f"the {_MARKED} heads that contribute most", BLACK)
    add_key(figure, [dot])
    return figure


def _words(heads: pl.DataFrame, column: str) -> str:
    if column == "r_entropy":
        return "correlation of $H_s$ with a right answer"
    top = heads.drop_nulls("rank").sort("rank")[:1]
    if top.is_empty():
        return "no item has finite contributions"
    return f"largest: layer {top['layer'][0]}, head {top['head'][0]}"


def _largest(values: pl.Series) -> float:
    finite = values.filter(values.is_finite()).abs()
    return float(finite.max() or 0.0)  # type: ignore[arg-type]


def _draw_map(ax: Axes, heads: pl.DataFrame, column: str, limit: float, unit: str) -> None:
    ordered = heads.sort("layer", "head")
    n_heads = ordered["head"].n_unique()
    values = ordered[column].to_numpy().reshape(-1, n_heads)
    image = ax.imshow(
        values, cmap=_COLOURS, vmin=-limit or -1, vmax=limit or 1, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    marked = ordered.filter(pl.col("rank") < min(_MARKED, len(ordered)))
    ax.plot(
        marked["head"], marked["layer"], linestyle="none", marker="o", color=BLACK,
        markeredgecolor="white", markeredgewidth=0.6,
        markersize=float(np.clip(72 / n_heads, 2.5, 5)),
    )  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=9, min_n_ticks=2))
    ax.grid(visible=False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.9, pad=0.02, aspect=16)
    bar.ax.tick_params(labelsize=SMALL - 0.5)
    bar.ax.set_title(unit, fontsize=SMALL, fontweight="normal", loc="left", pad=4)
    bar.outline.set_visible(False)

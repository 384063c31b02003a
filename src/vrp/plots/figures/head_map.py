"""Contribution of each attention head, and correlation of its entropy with correctness."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vrp.plots.marks import NUMBER, TEXT, WHOLE, of_model, table_of_marks
from vrp.plots.panels import (
    absence,
    add_key,
    counted,
    dot_key,
    model_panels,
    not_run,
    note,
)
from vrp.plots.style import BLACK
from vrp.study.results import StudyResults
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import METRICS, POOLED
from vrp.tables.heads import HEADS

ORDER = 60
TITLE = "Attention heads: contribution to the answer, and entropy as a signal"
CAPTION = (
    "Above: mean direct contribution of each head to the logit difference between the answer and "
    "its runner-up. Below: correlation of the head's spatial entropy with a right answer, within "
    "strata, on the same scale for all models; of so many heads, some correlate by chance. Dots "
    "mark the ten heads that contribute most; if attention were informative, it should be so in "
    "these."
)
TABLES = (HEADS, METRICS)

_MARKED = 10
# From dark to light, so that signs can be told in grey, too.
_COLOURS = "cividis"
_LEAST_R = 0.3  # correlations below it should look pale
_QUANTITIES = ("contribution", "r_entropy")
_COLUMNS = {
    "model": TEXT, "quantity": TEXT, "layer": WHOLE, "head": WHOLE, "rank": WHOLE,
    "value": NUMBER, "n": WHOLE, "images": WHOLE,
}  # fmt: skip


def data(study: StudyResults) -> pl.DataFrame:
    """Return mean contribution and R(H_s) of each head; n and images are those of the answers."""
    rows = []
    for model in study.models:
        answers = model.table(METRICS).filter(predictor="model", metric="accuracy", scope=POOLED)
        n, images = answers.select("n", "n_groups").row(0) if len(answers) else (None, None)
        heads = model.table(HEADS).sort("layer", "head")
        for quantity in _QUANTITIES:
            if absence(heads, quantity):
                continue
            for row in heads.iter_rows(named=True):
                key = {name: row[name] for name in ("layer", "head", "rank")}
                value = {"value": row[quantity], "n": n, "images": images}
                rows.append({"model": model.name, "quantity": quantity, **key, **value})
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw layers × heads maps of contribution and of R(H_s)."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.7, 2.7], share_x="none", y_labels=["decoder layer"] * 2
    )
    strongest = _largest(marks.filter(quantity="r_entropy"))
    for model, column in columns:
        heads = model.table(HEADS)
        # Metrics, and yet no heads: they were not captured.
        nothing = NOT_CAPTURED if heads.is_empty() and len(model.table(METRICS)) else None
        for ax, quantity in zip(column, _QUANTITIES, strict=True):
            reason = absence(heads, quantity)
            if reason:
                not_run(ax, nothing or reason)
                continue
            own = of_model(marks, model.name).filter(quantity=quantity)
            is_r = quantity == "r_entropy"
            limit = max(_LEAST_R, strongest) if is_r else _largest(own)
            _draw_map(ax, own, limit)
            note(ax, _words(own, quantity))
            ax.set_xlabel("head" if is_r else "")
    dot = dot_key(f"the {_MARKED} heads that contribute most", BLACK)
    add_key(figure, [dot])
    return figure


def _words(marks: pl.DataFrame, quantity: str) -> str:
    n, images = marks.select("n", "images").row(0)
    counts = "" if n is None else f"; {counted(n, images)}"
    if quantity == "r_entropy":
        return f"R of $H_\\mathrm{{s}}$ and a right answer, within strata{counts}"
    top = marks.drop_nulls("rank").sort("rank")[:1]
    if top.is_empty():
        return "no item has finite contributions"
    return f"logits; largest: layer {top['layer'][0]}, head {top['head'][0]}{counts}"


def _largest(marks: pl.DataFrame) -> float:
    return float(marks["value"].abs().max() or 0.0)  # type: ignore[arg-type]


def _draw_map(ax: Axes, marks: pl.DataFrame, limit: float) -> None:
    n_heads = marks["head"].n_unique()
    values = marks["value"].to_numpy().reshape(-1, n_heads)
    image = ax.imshow(
        values, cmap=_COLOURS, vmin=-limit or -1, vmax=limit or 1, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    marked = marks.filter(pl.col("rank") < min(_MARKED, len(marks)))
    ax.plot(
        marked["head"], marked["layer"], linestyle="none", marker="o", color=BLACK,
        markeredgecolor="white", markeredgewidth=0.6,
        markersize=float(np.clip(72 / n_heads, 2.5, 5)),
    )  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins="auto", min_n_ticks=2))
    ax.grid(visible=False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.9, pad=0.02, aspect=16)
    bar.outline.set_visible(False)

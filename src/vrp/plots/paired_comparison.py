"""Figure of two models compared on the same questions: accuracy by task, AUROC by signal."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.errors import InputError
from vrp.estimates.paired_comparison import Difference, PairedComparison
from vrp.estimates.predictors import predictor_label
from vrp.plots.panels import interval_dot, reference_band, zero_line
from vrp.plots.style import BLUE, house_style, size_in_force, with_symbols
from vrp.tables.atomic_files import atomic_write
from vrp.tables.estimates import MACRO

_FORMATS = (".svg", ".pdf", ".png")
_ROW_INCHES = 0.24


def draw(found: PairedComparison, path: Path) -> None:
    """Draw both panels into a file.

    Raises:
        InputError: a file name of another kind, or the folder cannot be written.
    """
    if path.suffix not in _FORMATS:
        raise InputError(f"{path}: a figure is .svg, .pdf or .png")
    panels = [
        (found.accuracies, "accuracy, B − A, pp"),
        (found.aurocs, "AUROC within strata, B − A"),
    ]
    panels = [(rows, label) for rows, label in panels if rows]
    height = 1.2 + _ROW_INCHES * max(len(rows) for rows, _ in panels)
    with house_style():
        figure = Figure(figsize=(size_in_force().inches, height), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (rows, label) in zip(axes, panels, strict=True):
            _draw_rows(ax, rows, label)
        reference_band(axes[0], -found.margin_pp, found.margin_pp, horizontal=False)
        figure.suptitle(
            f"A: {found.first}, B: {found.second}, {found.n_items:,} questions on "
            f"{found.n_images:,} images"
        )
        with atomic_write(path) as part:
            figure.savefig(part, format=path.suffix[1:], dpi=200)


def _draw_rows(ax: Axes, rows: Sequence[Difference], label: str) -> None:
    for place, row in enumerate(rows):
        interval_dot(ax, place, row.gap.value, row.gap.low, row.gap.high, colour=BLUE)
    zero_line(ax, horizontal=False)
    names = ["mean over tasks" if row.name == MACRO else predictor_label(row.name) for row in rows]
    ax.set_yticks(range(len(rows)), [with_symbols(name) for name in names])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(label)
    ax.tick_params(axis="y", length=0)

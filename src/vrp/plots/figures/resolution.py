"""What a study could see: the smallest effect that it finds, beside each estimate."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_kind, predictor_label
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Standing, standing
from vrp.findings.evidence import ModelEvidence, evidence_tables, model_evidence
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    model_panels,
    not_run,
    note,
    reference_band,
)
from vrp.plots.style import BLACK, GREY
from vrp.plots.verdict_marks import STANDING_MARKS, keys_of
from vrp.study.results import StudyResults

ORDER = 170
TITLE = "Power of this study: estimates and smallest detectable effects"
CAPTION = (
    "Distance of every estimate from no effect, in ascending order. The black dash is the smallest "
    "distance that the study detects with 80% power after Holm's correction; the grey band counts "
    "as no effect. Where a hollow mark is below its dash, the study cannot distinguish a small "
    "effect from none; more images would help. The median of the dashes is printed above each "
    "panel."
)
TABLES = evidence_tables()

_COLUMNS = {
    "model": TEXT, "quantity": TEXT, "name": TEXT, "label": TEXT, **INTERVAL,
    "distance": NUMBER, "resolvable": NUMBER, "shown": TEXT,
}  # fmt: skip
_AUROC, _POINTS = "AUROC", "percentage points of accuracy"
_NULL = {_AUROC: 0.5, _POINTS: 0.0}
_Y_LABELS = {_AUROC: "|AUROC − 0.5|", _POINTS: "|effect|, pp"}
_WHOLE = 100.0  # percentage points: what cannot be found at all


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model and estimate, by quantity, ascending in distance."""
    rows = []
    for model in study.models:
        evidence = model_evidence(model, study)
        for quantity, estimates in (
            (_AUROC, _aurocs(evidence)), (_POINTS, _effects(evidence)),
        ):  # fmt: skip
            found = [
                _row(model.name, quantity, *estimate)
                for estimate in estimates
                if estimate[2].defined and estimate[2].resolvable < _WHOLE
            ]
            rows += sorted(found, key=lambda row: (row["distance"], row["name"]))
    return table_of_marks(rows, _COLUMNS)


def _aurocs(model: ModelEvidence) -> list[tuple[str, str, ReportedEstimate]]:
    names = [
        name
        for name in (*model.signals(), *model.probe_names())
        if predictor_kind(name) != "guards"
    ]
    return [(n, predictor_label(n), number) for n in names if (number := model.auroc(n))]


def _effects(model: ModelEvidence) -> list[tuple[str, str, ReportedEstimate]]:
    return [
        (f"{kind}: {name}", model.conditions.named(kind, name).label, found.effect)
        for (kind, name, scope), found in model.effects.items()
        if scope == "all"
    ]


def _row(
    model: str, quantity: str, name: str, label: str, number: ReportedEstimate
) -> dict[str, object]:
    null = _NULL[quantity]
    return {
        "model": model, "quantity": quantity, "name": name, "label": label,
        **interval_of(number._asdict()),
        "distance": abs(number.value - null), "resolvable": number.resolvable,
        "shown": STANDING_MARKS[standing(number, null=null)].words,
    }  # fmt: skip


def draw(study: StudyResults) -> Figure:
    """Draw AUROCs above and effects below, a column a model."""
    shown = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.5, 2.5], share_x="none", share_y=True,
        y_labels=list(_Y_LABELS.values()),
    )  # fmt: skip
    margins = {_AUROC: study.margins.auroc, _POINTS: study.margins.effect_pp}
    either = pl.max_horizontal("distance", "resolvable").max()
    largest = dict(shown.group_by("quantity").agg(either).iter_rows())
    for model, panels in columns:
        for ax, quantity in zip(panels, _Y_LABELS, strict=True):
            rows = shown.filter(model=model.name, quantity=quantity)
            if rows.is_empty():
                not_run(ax)
                continue
            _draw_estimates(ax, rows, top=largest[quantity])
            reference_band(ax, 0, margins[quantity])
    marks = [mark for mark in STANDING_MARKS.values() if mark.words in shown["shown"]]
    dash = dot_key("smallest detectable", BLACK, marker="_")
    add_key(figure, [*keys_of(marks), dash] if len(shown) else [])
    return figure


def _draw_estimates(ax: Axes, rows: pl.DataFrame, *, top: float) -> None:
    placed = rows.with_row_index("place")
    ax.vlines(
        placed["place"], placed["distance"], placed["resolvable"], color=GREY, linewidth=0.6,
        zorder=1.5,
    )  # fmt: skip
    ax.plot(
        placed["place"], placed["resolvable"], linestyle="none", marker="_", color=BLACK,
        markersize=4, zorder=2,
    )  # fmt: skip
    for mark in dict.fromkeys(STANDING_MARKS.values()):
        some = placed.filter(shown=mark.words)
        ax.plot(
            some["place"], some["distance"], linestyle="none", marker=mark.marker,
            color=mark.colour, markerfacecolor="white" if mark.hollow else mark.colour, zorder=3,
        )  # fmt: skip
    n_undecided = len(rows.filter(shown=STANDING_MARKS[Standing.UNSETTLED].words))
    median = float(np.median(rows["resolvable"].to_numpy()))
    note(ax, f"{n_undecided} of {len(rows)} undecided; detectable from {median:.2g}")
    note(ax, counts_of(rows))
    ax.set_yscale("function", functions=(_root, np.square))
    ax.set_ylim(0, 1.05 * top)
    ax.set_xticks([])
    ax.set_xlabel("estimates, by distance")


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shows small distances as well as large ones."""
    return np.sqrt(np.maximum(values, 0))

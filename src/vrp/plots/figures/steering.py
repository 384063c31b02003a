"""What moving the state along the probe's direction does, by dose."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.interventions.ablation import AblationCondition
from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, of_model, table_of_marks
from vrp.plots.panels import (
    add_key,
    counts_of,
    line_key,
    marks_ribbon,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS

ORDER = 160
TITLE = "Is the probe's direction used? Answers when the state is moved along it"
CAPTION = (
    "Change in accuracy and in the decision margin of the first token when the state at the "
    "prompt's last token and at the answer's tokens is moved along the linear probe's direction, "
    "by dose in standard deviations. 95% intervals are clustered by image; those of random "
    "directions include the spread between directions. A direction that is only readable has no "
    "effect; one that is used has a larger effect than a step of the same length in a random "
    "direction."
)
TABLES = (EFFECTS,)

_KINDS = (
    ("steer", "along the probe's direction", "-"),
    ("steer_random", "in random directions", "--"),
)
_QUANTITIES = (
    ("change in accuracy, pp", ("effect", "low", "high")),
    ("change of the margin", ("margin", "margin_low", "margin_high")),
)
_COLUMNS = {"model": TEXT, "quantity": TEXT, "direction": TEXT, "dose": NUMBER, **INTERVAL}


def data(study: StudyResults) -> pl.DataFrame:
    """Return both changes by dose at the best layer; at dose 0 nothing changes."""
    doses = _doses(study)
    rows = []
    for model in study.models:
        effects = effects_of(study, model, "ablate").filter(pl.col("condition").is_in(list(doses)))
        for quantity, ends in _QUANTITIES:
            for kind, *_ in _KINDS:
                key = {"model": model.name, "quantity": quantity, "direction": kind}
                curve = [
                    {**key, "dose": dose, **dict(zip(INTERVAL, map(row.get, ends), strict=False)),
                     "n": row["n"], "images": row["n_groups"]}
                    for row in effects.iter_rows(named=True)
                    if (own := doses[row["condition"]]).kind == kind
                    and (dose := own.dose) is not None
                ]  # fmt: skip
                if curve:
                    curve.append({**key, "dose": 0.0, "value": 0.0, "low": 0.0, "high": 0.0})
                rows += sorted(curve, key=lambda mark: mark["dose"])
    return table_of_marks(rows, _COLUMNS)


def draw(study: StudyResults) -> Figure:
    """Draw both changes against the dose."""
    marks = data(study)
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, 2.0], share_x="all",
        y_labels=[quantity for quantity, _ in _QUANTITIES],
    )  # fmt: skip
    for model, column in columns:
        own = of_model(marks, model.name)
        for ax, (quantity, _) in zip(column, _QUANTITIES, strict=True):
            rows = own.filter(quantity=quantity)
            if rows.is_empty():
                not_run(ax)
                continue
            _draw_curves(ax, rows)
            zero_line(ax)
        if len(own):
            note(column[0], counts_of(own))
            column[-1].set_xlabel("dose, SD")
    keys = [
        line_key(label, CONDITION_COLOURS[kind], linestyle=style) for kind, label, style in _KINDS
    ]
    add_key(figure, keys if len(marks) else [])
    return figure


def _draw_curves(ax: Axes, marks: pl.DataFrame) -> None:
    for kind, _, style in reversed(_KINDS):
        rows = marks.filter(direction=kind)
        if len(rows):
            marks_ribbon(ax, rows, "dose", colour=CONDITION_COLOURS[kind], linestyle=style)


def _doses(study: StudyResults) -> dict[str, AblationCondition]:
    """Conditions that steer at the best layer, by name."""
    kinds = {kind for kind, *_ in _KINDS}
    return {
        name: condition
        for name, condition in study.conditions.ablate.items()
        if isinstance(condition, AblationCondition)
        and condition.kind in kinds
        and not condition.variant
    }

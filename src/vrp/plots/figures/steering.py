"""What moving the state along the probe's direction does, by dose."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.interventions.ablation import AblationCondition
from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.panels import add_key, line_key, model_panels, not_run, note, ribbon, zero_line
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS

ORDER = 160
TITLE = "Is the probe's direction used? Answers when the state is moved along it"
CAPTION = (
    "Change in accuracy, and of the decision margin of the first token, when the state at the "
    "prompt's last token and the answer's is moved along the linear probe's direction, by dose in "
    "standard deviations; 95% intervals, image-clustered and, of random directions, with their "
    "spread. A direction that is only readable moves nothing; one that is used moves more than as "
    "long a step in a random direction."
)
TABLES = (EFFECTS,)

_KINDS = (("steer", "along the probe's direction"), ("steer_random", "in random directions"))


def draw(study: StudyResults) -> Figure:
    """Draw both changes against the dose, at the best layer."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.2, 2.0], share_x="all",
        y_labels=["change in accuracy, pp", "change of the margin"],
    )  # fmt: skip
    doses = _doses(study)
    for model, (above, below) in columns:
        rows = effects_of(study, model, "ablate").filter(pl.col("condition").is_in(list(doses)))
        if rows.is_empty():
            not_run(above)
            not_run(below)
            continue
        for kind, _ in reversed(_KINDS):
            own = [
                (condition.dose, row)
                for row in rows.iter_rows(named=True)
                if (condition := doses[row["condition"]]).kind == kind
            ]
            _line(above, own, ("effect", "low", "high"), CONDITION_COLOURS[kind])
            _line(below, own, ("margin", "margin_low", "margin_high"), CONDITION_COLOURS[kind])
        note(above, f"{rows['n'].to_numpy().max():,} items")
        for ax in (above, below):
            zero_line(ax)
        below.set_xlabel("dose, SD")
    keys = [line_key(label, CONDITION_COLOURS[kind]) for kind, label in _KINDS]
    add_key(figure, keys if doses else [])
    return figure


def _doses(study: StudyResults) -> dict[str, AblationCondition]:
    """Conditions that steer at the best layer, by name."""
    kinds = {kind for kind, _ in _KINDS}
    return {
        name: condition
        for name, condition in study.conditions.ablate.items()
        if isinstance(condition, AblationCondition)
        and condition.kind in kinds
        and not condition.variant
    }


def _line(
    ax: Axes,
    rows: list[tuple[float | None, dict[str, float]]],
    columns: tuple[str, str, str],
    colour: str,
) -> None:
    """A curve through no change at dose 0."""
    points = [[0.0] * 4]
    points += [[dose, *(row[name] for name in columns)] for dose, row in rows if dose is not None]
    x, value, low, high = np.array(sorted(points), dtype=np.float64).T
    if len(x) > 1:
        ribbon(ax, x, value, low, high, colour=colour)

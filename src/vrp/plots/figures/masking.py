"""Effect of hiding image tokens on accuracy."""

import polars as pl
from matplotlib.figure import Figure

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import in_reading_order
from vrp.plots.effect_rows import EFFECT_COLUMNS, draw_effects, effect_keys, effect_marks
from vrp.plots.marks import of_model, table_of_marks
from vrp.plots.named_rows import rows_of
from vrp.plots.panels import add_key, model_panels, not_run
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS

ORDER = 130
TITLE = "Does the answer depend on the most attended image tokens? Change in accuracy when hidden"
CAPTION = (
    "Change in accuracy (percentage points, over each condition's items) with 95% intervals "
    "clustered by image; grey ticks are single random draws. The answer depends on attended tokens "
    "in particular only as far as hiding them costs more than hiding as many random ones; the "
    "figure has a row for this difference."
)
TABLES = (EFFECTS,)


def data(study: StudyResults) -> pl.DataFrame:
    """Return the effect of each masking condition at the study's main share."""
    conditions = _main_conditions(study)
    return table_of_marks(
        (
            row
            for model in study.models
            for row in effect_marks(effects_of(study, model, "mask"), conditions)
        ),
        EFFECT_COLUMNS,
    )


def draw(study: StudyResults) -> Figure:
    """Draw the effects, one row a condition."""
    marks, conditions = data(study), _main_conditions(study)
    rows = rows_of([condition.label for condition in conditions])
    figure, columns = model_panels(study, TITLE, heights=[rows.height], share_x="all", rows=rows)
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
        else:
            draw_effects(ax, own, conditions, rows)
    add_key(figure, effect_keys() if conditions else [])
    return figure


def _main_conditions(study: StudyResults) -> list[Condition | Contrast]:
    """Conditions of the study's main share, and those that replace the whole image."""
    frames = [effects_of(study, model, "mask") for model in study.models]
    names = {name for frame in frames for name in frame["condition"]}
    main = study.conditions.main("mask")
    found = in_reading_order(study.conditions.named("mask", name) for name in names)
    return [c for c in found if c.size is None or (main is not None and c.size == main.size)]

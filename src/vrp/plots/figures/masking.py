"""Effect of hiding image tokens on accuracy."""

import polars as pl
from matplotlib.figure import Figure

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import in_reading_order
from vrp.plots.effect_rows import draw_effects, effect_keys
from vrp.plots.panels import add_key, is_leftmost, model_panels, not_run
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS

ORDER = 130
TITLE = "Does the answer depend on the most attended image tokens? Change in accuracy when hidden"
CAPTION = (
    "Change in accuracy (percentage points, over each condition's items) with 95% image-clustered "
    "intervals; grey ticks are the single random draws. Attention is causal only as far as hiding "
    "the most attended tokens costs more than hiding as many at random; their difference is a row."
)
TABLES = (EFFECTS,)


def draw(study: StudyResults) -> Figure:
    """Draw the effect of each masking condition at the study's main share."""
    rows = [effects_of(study, model, "mask") for model in study.models]
    conditions = _main_conditions(study, {name for frame in rows for name in frame["condition"]})
    names = [condition.name for condition in conditions]
    figure, columns = model_panels(
        study, TITLE, heights=[0.27 * max(len(conditions), 4) + 1.1], share_x="all"
    )
    for (_, (ax,)), frame in zip(columns, rows, strict=True):
        if frame.is_empty():
            not_run(ax)
        else:
            main = frame.filter(pl.col("condition").is_in(names))
            draw_effects(ax, main, conditions, labelled=is_leftmost(ax))
    add_key(figure, effect_keys() if conditions else [])
    return figure


def _main_conditions(study: StudyResults, names: set[str]) -> list[Condition | Contrast]:
    """Conditions of the study's main share, and those that replace the whole image."""
    main = study.conditions.main("mask")
    found = in_reading_order(study.conditions.named("mask", name) for name in names)
    return [c for c in found if c.size is None or (main is not None and c.size == main.size)]

"""What hiding image tokens does to accuracy."""

import polars as pl
from matplotlib.figure import Figure

from vrp.plots.conditions import mask_label, parse_condition, reading_order
from vrp.plots.effect_rows import draw_effects, effect_keys
from vrp.plots.panels import add_key, is_leftmost, model_panels, not_run
from vrp.plots.rows import effects_of
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.effects import EFFECTS

ORDER = 130
TITLE = "Does the answer hang on the most attended image tokens? Change in accuracy when hidden"
CAPTION = (
    "Change in accuracy (mean over tasks, percentage points) with 95% image-clustered intervals; "
    "grey ticks are the single random draws. Attention is causal only as far as hiding the most "
    "attended tokens costs more than hiding as many at random, which the last row estimates."
)
TABLES = (EFFECTS,)


def draw(study: StudyResults) -> Figure:
    """Draw the effect of each masking condition at the study's main share."""
    rows = [_main_rows(study, model) for model in study.models]
    names = sorted({name for frame in rows for name in frame["condition"]}, key=reading_order)
    figure, columns = model_panels(
        study, TITLE, heights=[0.27 * max(len(names), 4) + 1.1], share_x="all"
    )
    for (_, (ax,)), frame in zip(columns, rows, strict=True):
        if frame.is_empty():
            not_run(ax)
        else:
            draw_effects(ax, frame, names, mask_label, labelled=is_leftmost(ax))
    add_key(figure, effect_keys() if names else [])
    return figure


def _main_rows(study: StudyResults, model: ModelResults) -> pl.DataFrame:
    """Conditions of the share that has a least-attended control, or else of the most items."""
    effects = effects_of(study, model, "mask")
    conditions = {name: parse_condition(name) for name in effects["condition"]}
    shares = [c.size for c in conditions.values() if c.kind == "bottom"]
    if not shares:
        most = effects.sort("n", "condition", descending=[True, False])["condition"]
        shares = [conditions[name].size for name in most if conditions[name].kind == "top"][:1]
    kept = [name for name, c in conditions.items() if c.size in (0.0, *shares)]
    return effects.filter(pl.col("condition").is_in(kept))

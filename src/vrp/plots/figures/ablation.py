"""Effect of silencing neurons on accuracy."""

import polars as pl
from matplotlib.figure import Figure

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import in_reading_order
from vrp.plots.effect_rows import (
    EFFECT,
    EFFECT_COLUMNS,
    draw_effects,
    effect_keys,
    effect_marks,
)
from vrp.plots.marks import of_model, table_of_marks
from vrp.plots.named_rows import rows_of
from vrp.plots.panels import (
    add_key,
    area_key,
    dot_key,
    interval_dot,
    model_panels,
    not_run,
    reference_band,
)
from vrp.plots.style import FAINT, INK
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS, OBJECT_IDENTIFICATION

ORDER = 150
TITLE = "Fragile or distributed? Change in accuracy when neurons are ablated"
CAPTION = (
    "Change in accuracy (percentage points, over each condition's items) with 95% intervals "
    "clustered by image. Grey ticks are single random draws; the band counts as no effect. "
    "Diamonds are existence questions that were right at baseline: their accuracy can only fall, "
    "so only their contrasts with random neurons are informative."
)
TABLES = (EFFECTS,)

_MOVES = ("steer", "steer_random")
_MOST_ROWS = 30
_KNOWN = "existence items right before"


def data(study: StudyResults) -> pl.DataFrame:
    """Return the effect of each ablation, and of the same on existence items right at baseline."""
    conditions = _conditions(study)
    scopes = (("all", EFFECT), (OBJECT_IDENTIFICATION, _KNOWN))
    return table_of_marks(
        (
            row
            for model in study.models
            for scope, mark in scopes
            for row in effect_marks(
                effects_of(study, model, "ablate", scope=scope), conditions, mark=mark
            )
        ),
        EFFECT_COLUMNS,
    )


def draw(study: StudyResults) -> Figure:
    """Draw the effects, one row a condition."""
    marks, conditions = data(study), _conditions(study)
    rows = rows_of([condition.label for condition in conditions])
    figure, columns = model_panels(study, TITLE, heights=[rows.height], share_x="all", rows=rows)
    margin = study.margins.effect_pp
    for model, (ax,) in columns:
        own = of_model(marks, model.name)
        if own.is_empty():
            not_run(ax)
            continue
        reference_band(ax, -margin, margin, horizontal=False)
        draw_effects(ax, own, conditions, rows)
        for place, condition in zip(rows.places, conditions, strict=True):
            for value in own.filter(condition=condition.name, mark=_KNOWN)["value"]:
                interval_dot(
                    ax, place + 0.25, value, None, None, colour=INK, hollow=True, marker="D"
                )
    more = [
        dot_key(_KNOWN, INK, marker="D", hollow=True),
        area_key(f"±{margin:g} points", FAINT),
    ]
    add_key(figure, [*effect_keys(), *more] if conditions else [])
    return figure


def _conditions(study: StudyResults) -> list[Condition | Contrast]:
    frames = [effects_of(study, model, "ablate") for model in study.models]
    return in_reading_order(
        _shown(study, {name for frame in frames for name in frame["condition"]})
    )


def _shown(study: StudyResults, names: set[str]) -> list[Condition | Contrast]:
    """All conditions, or, where they are too many, those at the best layer with zeros.

    What moves the state has a figure of its own.
    """
    found = [study.conditions.named("ablate", name) for name in sorted(names)]
    found = [c for c in found if (c.condition if isinstance(c, Contrast) else c).kind not in _MOVES]
    return found if len(found) <= _MOST_ROWS else [c for c in found if c.variant in ("", "pct")]

"""Effect of silencing neurons on accuracy."""

import polars as pl
from matplotlib.figure import Figure

from vrp.interventions.conditions import Condition, Contrast
from vrp.plots.condition_style import in_reading_order
from vrp.plots.effect_rows import draw_effects, effect_keys
from vrp.plots.panels import (
    add_key,
    area_key,
    dot_key,
    is_leftmost,
    model_panels,
    not_run,
    reference_band,
)
from vrp.plots.style import FAINT, INK
from vrp.plots.table_rows import effects_of
from vrp.study.results import StudyResults
from vrp.tables.effects import EFFECTS, OBJECT_IDENTIFICATION

ORDER = 150
TITLE = "Fragile or distributed? Change in accuracy when neurons are silenced"
CAPTION = (
    "Change in accuracy (percentage points, over each condition's items) with 95% image-clustered "
    "intervals; grey ticks are single random draws, and the band counts as no effect. Diamonds: "
    "existence questions that were right before, where accuracy can only fall, so only the "
    "contrasts with random neurons count there."
)
TABLES = (EFFECTS,)

_MOVES = ("steer", "steer_random")
_MOST_ROWS = 30


def draw(study: StudyResults) -> Figure:
    """Draw the effect of each ablation, and of the same on existence items right at baseline."""
    rows = [effects_of(study, model, "ablate") for model in study.models]
    shown = {name for frame in rows for name in frame["condition"]}
    conditions = in_reading_order(_shown(study, shown))
    places = {condition.name: place for place, condition in enumerate(conditions)}
    figure, columns = model_panels(
        study, TITLE, heights=[0.27 * max(len(conditions), 4) + 1.1], share_x="all"
    )
    margin = study.margins.effect_pp
    for (model, (ax,)), frame in zip(columns, rows, strict=True):
        if frame.is_empty():
            not_run(ax)
            continue
        reference_band(ax, -margin, margin, horizontal=False)
        own = pl.col("condition").is_in(list(places))
        draw_effects(ax, frame.filter(own), conditions, labelled=is_leftmost(ax))
        known = effects_of(study, model, "ablate", scope=OBJECT_IDENTIFICATION).filter(own)
        for row in known.filter(pl.col("effect").is_finite()).iter_rows(named=True):
            ax.plot(
                [row["effect"]], [places[row["condition"]] + 0.25], marker="D", markersize=4,
                color=INK, markerfacecolor="white", linestyle="none", zorder=3,
            )  # fmt: skip
    more = [
        dot_key("existence items right before", INK, marker="D", hollow=True),
        area_key(f"±{margin:g} points", FAINT),
    ]
    add_key(figure, [*effect_keys(), *more] if conditions else [])
    return figure


def _shown(study: StudyResults, names: set[str]) -> list[Condition | Contrast]:
    """All conditions, or, where they are too many, those at the best layer with zeros.

    What moves the state has a figure of its own.
    """
    found = [study.conditions.named("ablate", name) for name in sorted(names)]
    found = [c for c in found if (c.condition if isinstance(c, Contrast) else c).kind not in _MOVES]
    return found if len(found) <= _MOST_ROWS else [c for c in found if c.variant in ("", "pct")]

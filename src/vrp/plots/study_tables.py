"""What figures are drawn from: the tables of a study, model by model."""

from dataclasses import dataclass, field

import polars as pl

from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import METRICS, PROBES
from vrp.tables.heads import HEADS
from vrp.tables.interventions import MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.signals import SIGNAL_TABLE

MODEL_SCHEMAS: dict[str, TableSchema] = {
    "answers": ANSWERS,
    "attention": ATTENTION,
    "lens": LENS,
    "consistency": CONSISTENCY,
    "signals": SIGNAL_TABLE,
    "heads": HEADS,
    "metrics": METRICS,
    "probes": PROBES,
    "predictions": PREDICTIONS,
    "neurons": NEURONS,
    "mask": MASK,
}
"""The tables that every model has, by the name of their field in `ModelTables`."""


def without_rows(schema: TableSchema) -> pl.DataFrame:
    """The table that a stage would have written for no items: its columns and no row."""
    frame = pl.from_arrow(schema.columns.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


@dataclass(frozen=True, kw_only=True)
class ModelTables:
    """The tables of one model; one that was not made has its columns and no row."""

    name: str
    """The model's name in the study."""
    answers: pl.DataFrame = field(default_factory=lambda: without_rows(ANSWERS))
    attention: pl.DataFrame = field(default_factory=lambda: without_rows(ATTENTION))
    lens: pl.DataFrame = field(default_factory=lambda: without_rows(LENS))
    consistency: pl.DataFrame = field(default_factory=lambda: without_rows(CONSISTENCY))
    signals: pl.DataFrame = field(default_factory=lambda: without_rows(SIGNAL_TABLE))
    heads: pl.DataFrame = field(default_factory=lambda: without_rows(HEADS))
    metrics: pl.DataFrame = field(default_factory=lambda: without_rows(METRICS))
    probes: pl.DataFrame = field(default_factory=lambda: without_rows(PROBES))
    predictions: pl.DataFrame = field(default_factory=lambda: without_rows(PREDICTIONS))
    neurons: pl.DataFrame = field(default_factory=lambda: without_rows(NEURONS))
    mask: pl.DataFrame = field(default_factory=lambda: without_rows(MASK))


@dataclass(frozen=True, kw_only=True)
class StudyTables:
    """The tables of a study."""

    items: pl.DataFrame = field(default_factory=lambda: without_rows(ITEMS))
    """The study's questions."""
    effects: pl.DataFrame = field(default_factory=lambda: without_rows(EFFECTS))
    """Effects of the interventions, of all models."""
    models: tuple[ModelTables, ...] = ()
    """In the order in which figures show them."""

    def judged(self, model: ModelTables, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of a per-item table with each item's `answered_right`, `group` and `task`.

        Items without an answer, or that are not the study's, are left out.
        """
        right = model.answers.select("item_id", answered_right=pl.col("correct"))
        asked = self.items.select("item_id", "group", "task")
        bare = frame.drop("group", "task", strict=False)
        return bare.join(right, on="item_id").join(asked, on="item_id").sort("item_id")

    def effects_of(
        self, model: ModelTables, intervention: str, *, scope: str = "macro"
    ) -> pl.DataFrame:
        """A model's rows of the effects table under one scope, one a condition."""
        return self.effects.filter(
            pl.col("model") == model.name,
            pl.col("intervention") == intervention,
            pl.col("scope") == scope,
        )

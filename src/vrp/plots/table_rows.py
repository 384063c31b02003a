"""Rows of a study's tables as several figures want them."""

import polars as pl

from vrp.estimates.estimate_rows import answer_forms
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.answers import ANSWERS
from vrp.tables.effects import EFFECTS
from vrp.tables.items import ITEMS
from vrp.tables.signals import strata_of

_ITEMS = ITEMS.only("group", "task", "reference")
_ANSWERS = ANSWERS.only("correct")
ANSWERED = (_ITEMS, _ANSWERS)
"""The tables that `answered_rows` reads beside the one that it is given."""


def answered_rows(study: StudyResults, model: ModelResults, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of a per-item table with each item's `answered_right`, `group`, `task` and `stratum`.

    Items without an answer or a reference, or that are not the study's, are left out.
    """
    judged = model.table(_ANSWERS).drop_nulls("correct")
    answers = judged.select("item_id", answered_right=pl.col("correct"))
    rows = frame.drop("group", "task", strict=False)
    items = study.table(_ITEMS)
    items = items.with_columns(form=answer_forms(items["reference"]))
    strata = items.select("item_id", "group", "task", stratum=strata_of(items))
    return rows.join(answers, on="item_id").join(strata, on="item_id").sort("item_id")


def effects_of(
    study: StudyResults, model: ModelResults, intervention: str, *, scope: str = "all"
) -> pl.DataFrame:
    """A model's rows of the effects table under one scope, one a condition."""
    return study.table(EFFECTS).filter(model=model.name, intervention=intervention, scope=scope)

"""How well attention tells right from wrong by every recipe, and by all of them together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.estimates.estimate_rows import EstimateRow, EvaluationItems, estimate_row, plain_row
from vrp.signals.recipes import Recipe
from vrp.stats.auroc import auroc_equivalence_p, auroc_estimate, stratified_auroc
from vrp.stats.clusters import mean_of
from vrp.stats.estimate import ALPHA
from vrp.stats.multiplicity import holm
from vrp.stats.ties import merge_near_ties
from vrp.tables.estimates import WITHIN_STRATA
from vrp.tables.recipes import RECIPES

ALL_RECIPES = "attention_recipes"
"""Predictor: all recipes together."""
MEAN_AUROC, SHARE_DIFFERING = "mean_auroc", "share_differing"
"""Metrics: the mean of their AUROCs, and the share that differ from 0.5 after Holm's correction."""


class JudgedRecipes(NamedTuple):
    """Recipes judged one by one, and together."""

    table: dict[str, list[Any]]
    """Columns of the recipes table."""
    together: list[EstimateRow]
    """Rows of all: the mean of their AUROCs, whose interval knows that they share items, and how
    many differ from 0.5."""


def judge_recipes(
    values: Mapping[Recipe, NDArray[np.float64]], items: EvaluationItems
) -> JudgedRecipes:
    """Judge every recipe within strata, and the mean of their AUROCs.

    Args:
        values: recipe → (n,) values, of which low means reliable; NaN where missing.
        items: what they are judged on.
    """
    columns: dict[str, list[Any]] = {name: [] for name in RECIPES.columns.names}
    parts = {}
    for recipe, of_items in values.items():
        part = stratified_auroc(
            -merge_near_ties(of_items), items.correct, items.groups, items.strata,
            n_images=items.n_images,
        )  # fmt: skip
        parts[" / ".join(recipe)] = part
        found = auroc_estimate(part)
        row = recipe._asdict() | {
            "auroc": found.value, "low": found.low, "high": found.high, "p": found.p,
            "n": found.n, "n_groups": found.n_groups,
            "n_dropped": int(np.isnan(of_items).sum()), "note": found.note or None,
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    columns["p_adjusted"] = holm(columns["p"]).tolist() if values else []
    together = _together(parts, items)
    if together:
        differing = np.asarray(columns["p_adjusted"]) < ALPHA
        defined = np.isfinite(columns["auroc"])
        share = float(differing[defined].mean())
        together.append(
            plain_row(ALL_RECIPES, WITHIN_STRATA, SHARE_DIFFERING, share, n=int(defined.sum()))
        )
    return JudgedRecipes(columns, together)


def _together(parts: Mapping[str, Any], items: EvaluationItems) -> list[EstimateRow]:
    defined = {name: part for name, part in parts.items() if part.defined}
    if not defined:
        return []
    mean = mean_of(defined, n_groups=max(part.n_groups for part in defined.values()))
    # They share items: their standard errors without any effect add up, at most.
    mean = replace(mean, null_se=float(np.mean([part.null_se for part in defined.values()])))
    counts = [part.n for part in defined.values()]
    least, n = min(counts), max(counts)
    of = f"{n}" if least == n else f"{least} to {n}"
    note = f"mean of {len(defined)} recipes of {of} items"
    estimate = auroc_estimate(mean)._replace(n=n, note=note)
    return [
        estimate_row(
            ALL_RECIPES, WITHIN_STRATA, MEAN_AUROC, estimate, n_dropped=len(items.correct) - n,
            p_equivalence=auroc_equivalence_p(mean, margin=items.margins.auroc), se=mean.test_se,
            df=mean.df,
        )
    ]  # fmt: skip

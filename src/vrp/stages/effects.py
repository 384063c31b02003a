"""What each intervention does to accuracy: paired effects, controls, specificity."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.effects import EffectsConfig
from vrp.errors import InputError
from vrp.interventions.conditions import StudyConditions, conditions_by_name
from vrp.stats.clusters import (
    ClusteredEstimate,
    group_sums,
    mean_of,
    numbered,
    smallest_resolvable,
)
from vrp.stats.estimate import ALPHA
from vrp.stats.multiplicity import holm
from vrp.stats.paired import (
    mcnemar,
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
)
from vrp.study.context import StageContext
from vrp.study.results import ModelResults, open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.effects import EFFECTS, OBJECT_IDENTIFICATION
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import TableSchema

EffectRow = dict[str, Any]
_ITEMS = ITEMS.only("group", "task")


class Runs(NamedTuple):
    """The same items before and under one condition, once per seed."""

    before: NDArray[np.bool_]
    """(n,) right without the intervention."""
    after: NDArray[np.bool_]
    """(n_seeds, n) right under the condition."""
    changed: NDArray[np.bool_]
    """(n_seeds, n) whether the answer differs from the baseline answer."""
    tasks: NDArray[np.str_]
    """(n,)"""
    groups: NDArray[np.int64]
    """(n,) images, numbered in the order of their names."""
    n_images: int
    """Images of all items."""

    def where(self, chosen: NDArray[np.bool_]) -> "Runs":
        """The same runs over some of the items."""
        return Runs(
            self.before[chosen],
            self.after[:, chosen],
            self.changed[:, chosen],
            self.tasks[chosen],
            self.groups[chosen],
            self.n_images,
        )


def run(context: StageContext) -> None:
    """Estimate every condition's effect for every model.

    Raises:
        InputError: a table is missing, an intervention has items without an answer, or it holds a
            condition that is not the study's.
    """
    seed, effects = context.study.seed, context.study.effects
    conditions = conditions_by_name(context.study)
    study = open_results(context.model_inputs(), items=context.input_path("items"))
    study.require(ANSWERS)
    rows: list[EffectRow] = []
    for schema in (MASK, ABLATE):
        for model in study.models:
            if model.paths(schema):
                runs = _read_runs(study.table(_ITEMS), model, schema)
                rows += _condition_rows(model.name, schema.name, runs, conditions, effects, seed)
    _adjust(rows)
    columns = {name: [row[name] for row in rows] for name in EFFECTS.columns.names}
    write_table(context.output_path("effects"), EFFECTS, columns, provenance=context.provenance)


def _read_runs(items: pl.DataFrame, model: ModelResults, schema: TableSchema) -> dict[str, Runs]:
    """Condition → its runs, conditions in alphabetical order."""
    before = model.table(ANSWERS.only("correct")).rename({"correct": "before"})
    table = model.table(schema.only("condition", "seed", "correct", "changed"))
    joined = table.join(before, on="item_id", how="inner").join(items, on="item_id", how="inner")
    folder = model.paths(schema)[0].parent
    if len(joined) != len(table):
        stray = table.join(joined, on="item_id", how="anti")["item_id"][0]
        raise InputError(f"{folder}: item {stray!r} has no answer in this study; rerun the stage")
    conditions = joined.sort("condition", "seed", "item_id").partition_by("condition", as_dict=True)
    return {str(name): _runs(frame, folder) for (name,), frame in conditions.items()}


def _runs(frame: pl.DataFrame, place: Path) -> Runs:
    n_seeds = frame["seed"].n_unique()
    n_items = frame["item_id"].n_unique()
    if n_seeds * n_items != len(frame):
        raise InputError(
            f"{place}: condition {frame['condition'][0]!r} is missing items for some seeds; "
            "rerun the stage"
        )
    first = frame[:n_items]
    return Runs(
        first["before"].to_numpy(),
        frame["correct"].to_numpy().reshape(n_seeds, n_items),
        frame["changed"].to_numpy().reshape(n_seeds, n_items),
        first["task"].to_numpy().astype(str),
        *numbered(first["group"].to_numpy()),
    )


def _condition_rows(
    model: str,
    intervention: str,
    runs_of: Mapping[str, Runs],
    conditions: StudyConditions,
    effects: EffectsConfig,
    seed: int,
) -> list[EffectRow]:
    """Rows of all conditions of one model, and of their differences from their controls."""
    rows = []
    contrasts = conditions.contrasts(intervention)
    for condition, runs in runs_of.items():
        conditions.named(intervention, condition)
        contrast = contrasts.get(condition)
        control = runs_of.get(contrast.against.name) if contrast is not None else None
        for scope, chosen in _scopes(runs).items():
            name = {"model": model, "intervention": intervention, "scope": scope}
            some = runs.where(chosen)
            # Items that were right before can only get worse: there a drop alone proves nothing.
            tested = scope != OBJECT_IDENTIFICATION
            before = some._replace(after=some.before[None])
            rows.append(
                {**name, "condition": condition}
                | _effect(before, some, effects, seed, tested=tested, macro=scope == "macro")
            )
            if contrast is not None and control is not None:
                against = control.where(chosen)
                rows.append(
                    {**name, "condition": contrast.name}
                    | _effect(against, some, effects, seed, macro=scope == "macro")
                )
    return rows


def _scopes(runs: Runs) -> dict[str, NDArray[np.bool_]]:
    """Name → (n,) items. `all` and `macro` hold the same items, weighted differently."""
    everything = np.ones(len(runs.before), dtype=bool)
    found = {task: runs.tasks == task for task in np.unique(runs.tasks).tolist()}
    found |= {"all": everything, "macro": everything}
    known = (runs.tasks == "existence") & runs.before
    if known.any():
        found[OBJECT_IDENTIFICATION] = known
    return found


def _effect(
    reference: Runs,
    runs: Runs,
    effects: EffectsConfig,
    seed: int,
    *,
    macro: bool,
    tested: bool = True,
) -> EffectRow:
    """Accuracy of `runs` minus that of `reference`, both averaged over their seeds.

    Specificity is the case where the reference is the random control. Random controls' spread
    over seeds is not in the interval; `per_seed` shows it.
    """
    part = _macro(reference, runs) if macro else _difference(reference, runs)
    estimate = paired_estimate(part)
    p, p_mcnemar = math.nan, math.nan
    before = 100 * float(reference.after.mean())
    if tested and not macro:
        p = _sign_flip(reference, runs, effects, seed)
        p_mcnemar = _mcnemar(reference, runs)
    return {
        "n": estimate.n,
        "n_groups": estimate.n_groups,
        "baseline": _accuracy(reference, macro=macro),
        "accuracy": _accuracy(runs, macro=macro),
        "effect": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "se": part.se,
        "df": part.df,
        "p": p,
        "p_mcnemar": p_mcnemar,
        "p_equivalence": paired_equivalence_p(part, margin=effects.equivalence_pp),
        "changed": float(runs.changed.mean()),
        "per_seed": [100 * float(after.mean()) - before for after in runs.after],
        "note": estimate.note or None,
    }


def _difference(reference: Runs, runs: Runs, name: str = "items") -> ClusteredEstimate:
    """Difference in percent, both sides averaged over their seeds."""
    return paired_difference(
        reference.after.mean(axis=0), runs.after.mean(axis=0), runs.groups,
        n_images=runs.n_images, name=name,
    )  # fmt: skip


def _macro(reference: Runs, runs: Runs) -> ClusteredEstimate:
    parts = {
        task: _difference(reference.where(chosen), runs.where(chosen), task)
        for task in np.unique(runs.tasks).tolist()
        if (chosen := runs.tasks == task).any()
    }
    return mean_of(parts, n_groups=len(np.unique(runs.groups)))


def _accuracy(runs: Runs, *, macro: bool) -> float:
    right = runs.after.mean(axis=0)
    if not macro:
        return float(right.mean())
    tasks = np.unique(runs.tasks)
    return float(np.mean([right[runs.tasks == task].mean() for task in tasks]))


def _sign_flip(reference: Runs, runs: Runs, effects: EffectsConfig, seed: int) -> float:
    # Times both numbers of seeds, the differences are whole numbers and the test stays exact.
    scaled = len(reference.after) * runs.after.sum(axis=0) - len(runs.after) * (
        reference.after.sum(axis=0)
    )
    nets = group_sums(scaled.astype(np.float64), runs.groups)
    return sign_flip_test(nets, seed=f"{seed}/effects", n_draws=effects.sign_flips)


def _mcnemar(reference: Runs, runs: Runs) -> float:
    """Only where there is one run on each side: it has no meaning for averages."""
    if len(reference.after) > 1 or len(runs.after) > 1:
        return math.nan
    before, after = reference.after[0], runs.after[0]
    return mcnemar(int((after & ~before).sum()), int((before & ~after).sum()))


def _adjust(rows: list[EffectRow]) -> None:
    """Holm's correction within model, intervention and scope, and what could be resolved."""
    families: dict[tuple[str, ...], list[EffectRow]] = {}
    for row in rows:
        key = (row["model"], row["intervention"], row["scope"])
        families.setdefault(key, []).append(row)
    for family in families.values():
        n_tests = max(1, sum(math.isfinite(row["p"]) for row in family))
        for name in ("p", "p_equivalence"):
            for row, value in zip(family, holm([row[name] for row in family]), strict=True):
                row[f"{name}_adjusted"] = float(value)
        for row in family:
            row["resolvable"] = smallest_resolvable(row["se"], row["df"], alpha=ALPHA / n_tests)

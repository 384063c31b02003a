"""What each intervention does to accuracy: paired effects, controls, specificity."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from vrp.config.effects import EffectsConfig
from vrp.data.scoring import normalise_answer
from vrp.errors import InputError
from vrp.estimates.estimate_rows import answer_forms
from vrp.estimates.intervention_runs import (
    Runs,
    differences_between_models,
    on_common_items,
)
from vrp.interventions.conditions import (
    Condition,
    Contrast,
    StudyConditions,
    conditions_by_name,
)
from vrp.interventions.masking import BLANK_IMAGE, SHAM
from vrp.interventions.tracing import BLANK, CLEAN
from vrp.stats.clusters import (
    MIN_IMAGES,
    clustered_mean,
    clustered_ratio,
    group_sums,
    mean_of,
    numbered,
    smallest_resolvable,
)
from vrp.stats.estimate import ALPHA, Estimate
from vrp.stats.multiplicity import holm
from vrp.stats.paired import (
    PairedDifference,
    PairedMean,
    mcnemar,
    mean_over_tasks,
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
)
from vrp.stats.random_sets import SetSpread, place_among
from vrp.study.context import StageContext
from vrp.study.results import ModelResults, open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.effects import EFFECTS, OBJECT_IDENTIFICATION
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import TableSchema
from vrp.tables.trace import NOTHING_ADDED, TRACE, TRACE_EFFECTS

EffectRow = dict[str, Any]
_ITEMS = ITEMS.only("group", "task", "reference")


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
    runs_of: dict[str, dict[str, dict[str, Runs]]] = {MASK.name: {}, ABLATE.name: {}}
    items = study.table(_ITEMS)
    items = items.with_columns(form=answer_forms(items["reference"])).drop("reference")
    for schema in (MASK, ABLATE):
        for model in study.models:
            if model.paths(schema):
                runs = _read_runs(items, model, schema, conditions)
                rows += _condition_rows(model.name, schema.name, runs, conditions, effects, seed)
                runs_of[schema.name][model.name] = runs
    for intervention, of_models in runs_of.items():
        rows += differences_between_models(
            of_models, intervention, conditions,
            seed=f"{seed}/effects", sign_flips=effects.sign_flips,
        )  # fmt: skip
    _adjust(rows, conditions)
    traces = [
        row for model in study.models if model.paths(TRACE) for row in _trace_rows(model, items)
    ]
    of_traces = {name: [row[name] for row in traces] for name in TRACE_EFFECTS.columns.names}
    write_table(
        context.output_path("trace_effects"), TRACE_EFFECTS, of_traces,
        provenance=context.provenance,
    )  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in EFFECTS.columns.names}
    write_table(context.output_path("effects"), EFFECTS, columns, provenance=context.provenance)


def _read_runs(
    items: pl.DataFrame, model: ModelResults, schema: TableSchema, conditions: StudyConditions
) -> dict[str, Runs]:
    """Condition → its runs, conditions in alphabetical order."""
    before = model.table(ANSWERS.only("correct", "decision_margin")).rename(
        {"correct": "before", "decision_margin": "margin_before"}
    )
    table = model.table(
        schema.only("condition", "seed", "answer", "correct", "changed", "decision_margin")
    )
    joined = table.join(before, on="item_id", how="inner").join(items, on="item_id", how="inner")
    folder = model.paths(schema)[0].parent
    if len(joined) != len(table):
        stray = table.join(joined, on="item_id", how="anti")["item_id"][0]
        raise InputError(f"{folder}: item {stray!r} has no answer in this study; rerun the stage")
    joined = _against_sham(joined)
    parts = joined.sort("condition", "seed", "item_id").partition_by("condition", as_dict=True)
    found = {}
    for (name,), frame in parts.items():
        conditions.named(schema.name, str(name))  # refuses those of another config
        found[str(name)] = _runs(frame, folder, conditions.of(schema.name)[str(name)])
    return found


def _against_sham(runs: pl.DataFrame) -> pl.DataFrame:
    """Take the sham's answers as the baseline of the other conditions, where it was run.

    It was answered in their own batches, so that what batches do to rounding is no effect; the
    sham itself is compared with the extraction's answers.
    """
    is_sham = pl.col("condition") == SHAM
    said = runs.select("task", "answer").unique()
    meant = [normalise_answer(task, answer) for task, answer in said.iter_rows()]
    runs = runs.join(said.with_columns(meant=pl.Series(meant, dtype=pl.String)),
                     on=["task", "answer"], how="left")  # fmt: skip
    sham = runs.filter(is_sham).select(
        "item_id", sham_before="correct", sham_margin="decision_margin", sham_meant="meant"
    )
    joined = runs.join(sham, on="item_id", how="left")

    def baseline(own: str, of_sham: str) -> pl.Expr:
        return pl.when(is_sham).then(own).otherwise(pl.coalesce(of_sham, own)).alias(own)

    return joined.with_columns(
        baseline("before", "sham_before"),
        baseline("margin_before", "sham_margin"),
        changed=pl.when(is_sham | pl.col("sham_meant").is_null())
        .then("changed")
        .otherwise(pl.col("meant") != pl.col("sham_meant")),
    )


def _runs(frame: pl.DataFrame, place: Path, condition: Condition) -> Runs:
    n_seeds = frame["seed"].n_unique()
    n_items = frame["item_id"].n_unique()
    if n_seeds * n_items != len(frame):
        raise InputError(
            f"{place}: condition {frame['condition'][0]!r} is missing items for some seeds; "
            "rerun the stage"
        )
    first = frame[:n_items]
    margin = (frame["decision_margin"] - frame["margin_before"]).to_numpy().astype(np.float64)
    groups, n_images = numbered(first["group"].to_numpy())
    return Runs(
        first["before"].to_numpy(),
        frame["correct"].to_numpy().reshape(n_seeds, n_items),
        frame["changed"].to_numpy().reshape(n_seeds, n_items),
        margin.reshape(n_seeds, n_items),
        first["task"].to_numpy().astype(str),
        (first["task"] + ": " + first["form"]).to_numpy().astype(str),
        groups, n_images, condition.one_set, first["item_id"].to_numpy().astype(str),
    )  # fmt: skip


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
    blank = runs_of.get(BLANK_IMAGE)
    for condition, runs in runs_of.items():
        contrast = contrasts.get(condition)
        control = runs_of.get(contrast.against.name) if contrast is not None else None
        for scope, chosen in _scopes(runs).items():
            name = {"model": model, "intervention": intervention, "scope": scope}
            some = runs.where(chosen)
            # Items that were right before can only get worse: there a drop alone proves nothing.
            tested = scope != OBJECT_IDENTIFICATION and condition != SHAM
            rows.append(
                {**name, "condition": condition}
                | _effect(some.baseline, some, effects, seed, tested=tested, macro=scope == "macro")
                | _beyond_blank(some, blank if condition not in (SHAM, BLANK_IMAGE) else None)
            )
            if contrast is not None and control is not None:
                both, against = on_common_items(some, control)
                if len(both.before):
                    rows.append(
                        {**name, "condition": contrast.name}
                        | _effect(against, both, effects, seed, macro=scope == "macro")
                        | _beyond_blank(both, None)
                    )
    return rows


def _scopes(runs: Runs) -> dict[str, NDArray[np.bool_]]:
    """Name → (n,) items. `all` and `macro` hold the same items, weighted differently."""
    everything = np.ones(len(runs.before), dtype=bool)
    found = {task: runs.tasks == task for task in np.unique(runs.tasks).tolist()}
    for stratum in np.unique(runs.strata).tolist():
        chosen = runs.strata == stratum
        if chosen.sum() < found[str(runs.tasks[chosen][0])].sum():
            found[stratum] = chosen
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

    Specificity is the case where the reference is the random control. Where a seed is one random
    set for all items, interval and tests are at least as wide as the sets' spread makes them.
    """
    part = _macro(reference, runs) if macro else _difference(reference, runs)
    estimate = paired_estimate(part)
    p, p_mcnemar = math.nan, math.nan
    p_equivalence = paired_equivalence_p(part, margin=effects.equivalence_pp)
    if tested and not macro:
        p = _sign_flip(reference, runs, effects, seed)
        p_mcnemar = _mcnemar(reference, runs)
    se, df = part.se, part.df
    spread = _spread(reference, runs, partial(_of_sets, macro=macro))
    if spread is not None:
        estimate = spread.widened(estimate)
        p = spread.p_against_none(part.value, p)
        p_equivalence = spread.p_equivalence(
            part.value, p_equivalence, margin=effects.equivalence_pp
        )
        se, df = spread.wider_of(se, df)
    before, right = reference.after.mean(axis=0), runs.after.mean(axis=0)
    mean = partial(_mean_over_tasks, runs) if macro else _mean
    margin = _margin(reference, runs, macro=macro)
    return {
        "n": estimate.n,
        "n_groups": estimate.n_groups,
        "baseline": _accuracy(reference, macro=macro),
        "accuracy": _accuracy(runs, macro=macro),
        "effect": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "se": se,
        "df": df,
        "p": p,
        "p_mcnemar": p_mcnemar,
        "p_equivalence": p_equivalence,
        "resolvable": partial(_resolvable, part, spread),
        "changed": mean(runs.changed.mean(axis=0)),
        "gained": mean(right * (1 - before)),
        "lost": mean(before * (1 - right)),
        "margin": margin.value,
        "margin_low": margin.low,
        "margin_high": margin.high,
        "per_seed": [100 * (mean(after) - mean(before)) for after in runs.after],
        "place": _place(reference, runs, macro=macro),
        "note": estimate.note or None,
    }


def _beyond_blank(runs: Runs, blank: Runs | None) -> EffectRow:
    """Accuracy under a masking minus that with a blank image, on the items of both.

    Args:
        runs: of the masking.
        blank: with a blank image; None: there is nothing to be compared with.
    """
    low, value, high = math.nan, math.nan, math.nan
    if blank is not None:
        some, grey = on_common_items(runs, blank)
        if len(some.before):
            estimate = paired_estimate(_difference(grey, some))
            low, value, high = estimate.low, estimate.value, estimate.high
    return {"to_blank": value, "to_blank_low": low, "to_blank_high": high}


def _of_sets(runs: Runs, *, macro: bool) -> list[float]:
    """Accuracy under each seed, in percent."""
    return [100 * _accuracy(runs._replace(after=one[None]), macro=macro) for one in runs.after]


def _spread(reference: Runs, runs: Runs, of_sets: Callable[[Runs], ArrayLike]) -> SetSpread | None:
    """Spread of a difference between random sets; None where neither side is of such sets.

    Args:
        reference: what is compared with.
        runs: what is compared.
        of_sets: value of each set, one a seed.
    """
    if reference.one_set:
        return SetSpread.of_one(of_sets(reference))
    return SetSpread.of_mean(of_sets(runs)) if runs.one_set else None


def _place(reference: Runs, runs: Runs, *, macro: bool) -> int | None:
    if not reference.one_set or len(reference.after) < 2:
        return None
    return place_among(100 * _accuracy(runs, macro=macro), _of_sets(reference, macro=macro))


def _resolvable(
    part: PairedDifference | PairedMean, spread: SetSpread | None, alpha: float
) -> float:
    """Smallest effect that a test at `alpha` finds, over images and over random sets."""
    if not part.defined or part.n_groups < MIN_IMAGES:
        return math.nan
    over_sets = 0.0 if spread is None else smallest_resolvable(spread.se, spread.df, alpha=alpha)
    return max(part.resolvable(alpha), over_sets)


def _margin(reference: Runs, runs: Runs, *, macro: bool) -> Estimate:
    """Mean change of the decision margin; items without a finite one are left out."""
    change = runs.margin.mean(axis=0) - reference.margin.mean(axis=0)
    known = np.isfinite(change)
    parts = {
        task: clustered_mean(
            np.where(chosen & known, change, np.nan), runs.groups, n_images=runs.n_images, name=task
        )
        for task, chosen in (_large_tasks(runs) if macro else {"items": known}).items()
    }
    estimate = mean_of(parts, n_groups=len(np.unique(runs.groups[known]))).estimate("clustered-t")
    spread = _spread(reference, runs, lambda sets: sets.margin[:, known].mean(axis=1))
    return estimate if spread is None else spread.widened(estimate)


def _difference(reference: Runs, runs: Runs, name: str = "items") -> PairedDifference:
    """Difference in percent, both sides averaged over their seeds."""
    return paired_difference(
        reference.after.mean(axis=0), runs.after.mean(axis=0), runs.groups,
        n_images=runs.n_images, name=name,
    )  # fmt: skip


def _macro(reference: Runs, runs: Runs) -> PairedDifference | PairedMean:
    parts = {
        task: _difference(reference.where(chosen), runs.where(chosen), task)
        for task, chosen in _tasks(runs).items()
    }
    used = np.isin(runs.tasks, list(_large_tasks(runs)))
    return mean_over_tasks(parts, n_groups=len(np.unique(runs.groups[used])))


def _tasks(runs: Runs) -> dict[str, NDArray[np.bool_]]:
    """Task → (n,) its items."""
    return {task: runs.tasks == task for task in np.unique(runs.tasks).tolist()}


def _large_tasks(runs: Runs) -> dict[str, NDArray[np.bool_]]:
    """The tasks that an average takes: those on enough images."""
    return {
        task: chosen
        for task, chosen in _tasks(runs).items()
        if len(np.unique(runs.groups[chosen])) >= MIN_IMAGES
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _mean_over_tasks(runs: Runs, values: NDArray[np.float64]) -> float:
    """Unweighted mean over the tasks of an average; NaN where it has none."""
    means = [values[chosen].mean() for chosen in _large_tasks(runs).values()]
    return float(np.mean(means)) if means else math.nan


def _accuracy(runs: Runs, *, macro: bool) -> float:
    right = runs.after.mean(axis=0)
    return _mean_over_tasks(runs, right) if macro else _mean(right)


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


def _trace_rows(model: ModelResults, items: pl.DataFrame) -> list[dict[str, Any]]:
    """Shares of what the image adds to the margin, of one model's knockouts and patches."""
    table = model.table(TRACE).join(items.select("item_id", "group"), on="item_id")
    runs = {
        (kind, layer): frame.sort("item_id")
        for (kind, layer), frame in table.partition_by("kind", "layer", as_dict=True).items()
    }
    if not runs:
        return []
    clean, blank = (runs[kind, -1]["margin"].to_numpy() for kind in (CLEAN, BLANK))
    groups, n_images = numbered(runs[CLEAN, -1]["group"].to_numpy())
    rows = []
    for (kind, layer), frame in sorted(runs.items()):
        if layer < 0:
            continue
        margin = frame["margin"].to_numpy()
        known = np.isfinite(margin) & np.isfinite(clean) & np.isfinite(blank)
        added = (clean - blank)[known]
        adds = clustered_mean(added, groups[known], n_images=n_images).estimate("clustered-t")
        ratio = clustered_ratio((margin - blank)[known], added, groups[known], n_images=n_images)
        estimate = ratio.estimate("clustered-t")
        same = float(frame["same_token"].to_numpy()[known].mean()) if known.any() else math.nan
        enough = adds.n_groups >= MIN_IMAGES
        if not ratio.defined or (enough and not adds.low > 0):  # a share of nothing
            estimate = estimate._replace(
                value=math.nan, low=math.nan, high=math.nan, note=NOTHING_ADDED
            )
        rows.append({
            "model": model.name, "kind": kind, "layer": layer,
            "last_layer": frame["last_layer"][0], "share": estimate.value, "low": estimate.low,
            "high": estimate.high, "same_token": same, "n": estimate.n,
            "n_groups": estimate.n_groups, "n_dropped": int((~known).sum()),
            "note": estimate.note or None,
        })  # fmt: skip
    return rows


def _adjust(rows: list[EffectRow], conditions: StudyConditions) -> None:
    """Holm's correction, and what could be resolved.

    A family is of one model, intervention and scope, and of one kind of condition, such as the
    most attended tokens; its effects and its differences from a control apart. So a study may ask
    more without what it asked before becoming less certain.
    """
    families: dict[tuple[str, ...], list[EffectRow]] = {}
    for row in rows:
        shown = conditions.named(row["intervention"], row["condition"])
        own = shown.condition if isinstance(shown, Contrast) else shown
        key = (row["model"], row["intervention"], row["scope"], shown.kind, own.kind)
        families.setdefault(key, []).append(row)
    for family in families.values():
        n_tests = max(1, sum(math.isfinite(row["p"]) for row in family))
        for name in ("p", "p_equivalence"):
            for row, value in zip(family, holm([row[name] for row in family]), strict=True):
                row[f"{name}_adjusted"] = float(value)
        for row in family:
            row["resolvable"] = row["resolvable"](ALPHA / n_tests)

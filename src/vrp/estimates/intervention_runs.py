"""Answers under an intervention's conditions, and how their effects differ between models."""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.interventions.conditions import StudyConditions
from vrp.interventions.masking import SHAM
from vrp.stats.clusters import group_sums, smallest_resolvable
from vrp.stats.paired import PERCENT, paired_difference, paired_estimate, sign_flip_test
from vrp.stats.random_sets import SetSpread


class Runs(NamedTuple):
    """The same items before and under one condition, once per seed."""

    before: NDArray[np.bool_]
    """(n,) right without the intervention."""
    after: NDArray[np.bool_]
    """(n_seeds, n) right under the condition."""
    changed: NDArray[np.bool_]
    """(n_seeds, n) whether the answer differs from the baseline answer."""
    margin: NDArray[np.float64]
    """(n_seeds, n) decision margin under the condition, minus that without it."""
    tasks: NDArray[np.str_]
    """(n,)"""
    strata: NDArray[np.str_]
    """(n,) task and form of the answer."""
    groups: NDArray[np.int64]
    """(n,) images, numbered in the order of their names."""
    n_images: int
    """Images of all items."""
    one_set: bool
    """Whether each seed is one random set for all items."""
    item_ids: NDArray[np.str_]
    """(n,) ascending."""

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Runs":
        """The same runs over some of the items, ascending."""
        return self._replace(
            before=self.before[chosen], after=self.after[:, chosen],
            changed=self.changed[:, chosen], margin=self.margin[:, chosen],
            tasks=self.tasks[chosen], strata=self.strata[chosen], groups=self.groups[chosen],
            item_ids=self.item_ids[chosen],
        )  # fmt: skip

    @property
    def baseline(self) -> "Runs":
        """The items without the intervention, as a run."""
        return self._replace(
            after=self.before[None], changed=np.zeros_like(self.before)[None],
            margin=np.zeros((1, len(self.before))), one_set=False,
        )  # fmt: skip


def on_common_items(one: Runs, other: Runs) -> tuple[Runs, Runs]:
    """Return two conditions' runs over the items that both were run on."""
    _, here, there = np.intersect1d(one.item_ids, other.item_ids, return_indices=True)
    return one.where(here), other.where(there)


class ItemEffects(NamedTuple):
    """What a condition does to each item of one model."""

    runs: Runs
    """The runs of the condition, for what they say of the items."""
    effects: NDArray[np.float64]
    """(n,) percentage points."""
    spread: SetSpread | None
    """Of their mean between random sets; None where no such sets are in it."""


def differences_between_models(
    runs_of: Mapping[str, Mapping[str, Runs]],
    intervention: str,
    conditions: StudyConditions,
    *,
    seed: str,
    sign_flips: int,
) -> list[dict[str, Any]]:
    """Rows of the effects table: a condition's effect on one model minus that on another.

    The same items are compared, clustered by image; random sets of two models vary apart.

    Args:
        runs_of: model → condition → its runs.
        intervention: `mask` or `ablate`.
        conditions: of the study.
        seed: names the random sign flips.
        sign_flips: how many, where they are random.
    """
    of_models = {
        model: _item_effects(runs, intervention, conditions) for model, runs in runs_of.items()
    }
    rows = []
    for one, other in combinations(of_models, 2):
        for name in sorted(of_models[one].keys() & of_models[other].keys()):
            here, there = of_models[one][name], of_models[other][name]
            if name == SHAM or not np.isin(here.runs.item_ids, there.runs.item_ids).any():
                continue
            row = _difference(here, there, seed=seed, sign_flips=sign_flips)
            about = {"model": f"{one} - {other}", "intervention": intervention, "scope": "all"}
            rows.append({**about, "condition": name, **row})
    return rows


def _item_effects(
    runs_of: Mapping[str, Runs], intervention: str, conditions: StudyConditions
) -> dict[str, ItemEffects]:
    """Condition or contrast → its effects item by item."""
    found = {}
    contrasts = conditions.contrasts(intervention)
    for name, runs in runs_of.items():
        right = PERCENT * runs.after.mean(axis=0)
        spread = SetSpread.of_mean(PERCENT * runs.after.mean(axis=1)) if runs.one_set else None
        found[name] = ItemEffects(runs, right - PERCENT * runs.before, spread)
        contrast = contrasts.get(name)
        control = runs_of.get(contrast.against.name) if contrast is not None else None
        if contrast is not None and control is not None:
            both, control = on_common_items(runs, control)
            if not len(both.before):
                continue
            against = PERCENT * control.after
            of_sets = SetSpread.of_one(against.mean(axis=1)) if control.one_set else None
            effects = PERCENT * both.after.mean(axis=0) - against.mean(axis=0)
            found[contrast.name] = ItemEffects(both, effects, of_sets)
    return found


def _difference(
    one: ItemEffects, other: ItemEffects, *, seed: str, sign_flips: int
) -> dict[str, Any]:
    shared, here, there = np.intersect1d(
        one.runs.item_ids, other.runs.item_ids, return_indices=True
    )
    groups = one.runs.groups[here]
    # Halves, since a difference of two effects reaches twice as far as an effect does.
    before, after = (values / (2 * PERCENT) for values in (other.effects[there], one.effects[here]))
    part = paired_difference(before, after, groups, n_images=one.runs.n_images)
    half = paired_estimate(part)
    estimate = half._replace(value=2 * half.value, low=2 * half.low, high=2 * half.high)
    change = one.effects[here] - other.effects[there]
    p = sign_flip_test(group_sums(change, groups), seed=seed, n_draws=sign_flips)
    se, df = 2 * part.se, part.df
    spread = _both(one.spread, other.spread)

    def resolvable(alpha: float) -> float:
        over_sets = (
            0.0 if spread is None else smallest_resolvable(spread.se, spread.df, alpha=alpha)
        )
        return max(2 * part.resolvable(alpha), over_sets)

    if spread is not None:
        estimate, p = spread.widened(estimate), spread.p_against_none(estimate.value, p)
        se, df = spread.wider_of(se, df)
    nothing = dict.fromkeys(
        ("baseline", "accuracy", "p_mcnemar", "p_equivalence", "changed", "gained", "lost",
         "margin", "margin_low", "margin_high", "to_blank", "to_blank_low", "to_blank_high"),
        math.nan,
    )  # fmt: skip
    return {
        **nothing, "n": len(shared), "n_groups": estimate.n_groups, "effect": estimate.value,
        "low": estimate.low, "high": estimate.high, "se": se, "df": df, "p": p, "per_seed": [],
        "resolvable": resolvable, "place": None, "note": estimate.note or None,
    }  # fmt: skip


def _both(one: SetSpread | None, other: SetSpread | None) -> SetSpread | None:
    """Spread of the difference of two estimates whose sets are drawn apart (Satterthwaite)."""
    parts = [spread for spread in (one, other) if spread is not None]
    if not parts:
        return None
    variance = sum(spread.se**2 for spread in parts)
    below = sum(spread.se**4 / spread.df for spread in parts)
    return SetSpread(math.sqrt(variance), variance**2 / below if below > 0 else math.inf)

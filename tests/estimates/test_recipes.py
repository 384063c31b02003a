"""All recipes of attention, judged one by one and together."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from vrp.config.margins import EquivalenceMargins
from vrp.estimates.estimate_rows import EvaluationItems
from vrp.estimates.recipes import judge_recipes
from vrp.signals.recipes import EACH_LAYER, ENTROPY, KEPT, LAYERS, MAP, Recipe

N = 600


def items(seed=0):
    random = np.random.default_rng(seed)
    frame = pl.DataFrame({
        "correct": random.random(N) < 0.6, "task": ["existence"] * N, "form": ["yes/no"] * N,
        "answer": ["yes"] * N, "group": [f"image {i:03d}" for i in range(N)],
    })  # fmt: skip
    return EvaluationItems.from_frame(frame, seed=0, n_boot=100, margins=EquivalenceMargins())


def recipes(make):
    return {
        Recipe(MAP, layers, KEPT, EACH_LAYER, ENTROPY): make(index)
        for index, layers in enumerate(LAYERS)
    }


def test_each_is_scikit_learns_auroc_and_low_is_reliable():
    asked, random = items(), np.random.default_rng(1)
    values = recipes(lambda index: random.normal(size=N) - index * asked.correct / 5)
    found = judge_recipes(values, asked)
    expected = [roc_auc_score(asked.correct, -of_items) for of_items in values.values()]
    assert found.table["auroc"] == pytest.approx(expected)
    assert found.table["layers"] == list(LAYERS)
    mean, share = found.together
    assert mean["value"] == pytest.approx(np.mean(expected))
    assert (share["n"], share["value"]) == (6, np.mean(np.array(found.table["p_adjusted"]) < 0.05))
    assert found.table["p_adjusted"][-1] < 0.05 < found.table["p_adjusted"][0]


def test_the_means_interval_knows_that_recipes_share_items():
    """Six copies of one recipe say no more than one; six that are independent say more."""
    asked, random = items(), np.random.default_rng(2)
    one = random.normal(size=N)
    copied = judge_recipes(recipes(lambda _: one), asked)
    assert copied.together[0]["se"] == pytest.approx(
        (copied.table["high"][0] - copied.table["low"][0]) / 2 / 1.964, rel=0.05
    )
    apart = judge_recipes(recipes(lambda _: random.normal(size=N)), asked)
    width = np.diff([apart.together[0]["low"], apart.together[0]["high"]])[0]
    each = np.mean(np.array(apart.table["high"]) - np.array(apart.table["low"]))
    assert width == pytest.approx(each / np.sqrt(6), rel=0.2)


def test_noise_is_rarely_found_by_any_recipe():
    found = 0
    for seed in range(40):
        random = np.random.default_rng((3, seed))
        judged = judge_recipes(recipes(lambda _, r=random: r.normal(size=N)), items(seed))
        found += judged.together[1]["value"] > 0
    assert found <= 6  # at most 5% of 40 are expected; P(more than 6) < 0.01


def test_without_recipes_there_is_nothing():
    found = judge_recipes({}, items())
    assert found.together == []
    assert not any(found.table.values())

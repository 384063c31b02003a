"""A chosen set of neurons is judged against how much random sets differ."""

import numpy as np
import pytest

from vrp.config.effects import EffectsConfig
from vrp.estimates.intervention_runs import Runs, differences_between_models
from vrp.interventions.ablation import AblationCondition
from vrp.interventions.conditions import StudyConditions
from vrp.stages.effects import _beyond_blank, _effect
from vrp.stats.random_sets import ONE_SET

N_ITEMS, EFFECTS = 300, EffectsConfig(sign_flips=300)
P_RIGHT, P_TURNED = 0.8, 0.1


def runs_of(random, before, shifts, *, one_set):
    """Runs under sets that turn right answers wrong more often by `shifts`, a share of items."""
    turned = random.random((len(shifts), len(before)))
    lost = np.clip(P_TURNED + np.asarray(shifts), 0, 1)[:, None]
    after = np.where(before, turned >= lost, turned < P_TURNED)
    margin = np.where(after, 1.0, -1.0) - np.where(before, 1.0, -1.0)
    tasks = np.full(len(before), "existence")
    groups = np.arange(len(before)) // 2
    ids = np.array([f"{index:05d}" for index in range(len(before))])
    return Runs(
        before, after, after != before, margin, tasks, tasks, groups, len(before) // 2, one_set, ids
    )


def top_minus_random(seed, *, spread, n_sets, shift=0.0):
    random = np.random.default_rng(seed)
    before = random.random(N_ITEMS) < P_RIGHT
    shifts = random.normal(0, spread, n_sets + 1)
    top = runs_of(random, before, [shifts[0] + shift], one_set=False)
    control = runs_of(random, before, shifts[1:], one_set=True)
    return _effect(control, top, EFFECTS, 0, macro=False)


@pytest.mark.parametrize("n_sets", [5, 20])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03, 0.1])
def test_sets_like_the_random_ones_are_rarely_told_apart(spread, n_sets):
    """At most 5% of studies, whatever the spread between sets; images alone say up to 60%."""
    found = [top_minus_random(seed, spread=spread, n_sets=n_sets) for seed in range(300)]
    wrong = np.mean([row["p"] < 0.05 for row in found])
    assert wrong <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / len(found))
    covered = np.mean([row["low"] <= 0 <= row["high"] for row in found])
    assert covered >= 0.95 - 2.6 * np.sqrt(0.05 * 0.95 / len(found))


def test_a_set_that_does_more_is_found():
    found = [top_minus_random(seed, spread=0.01, n_sets=20, shift=0.15) for seed in range(40)]
    assert np.mean([row["p"] < 0.05 for row in found]) > 0.9
    assert np.mean([row["place"] == 1 for row in found]) > 0.9


def test_one_random_set_tells_nothing():
    row = top_minus_random(0, spread=0.01, n_sets=1, shift=0.3)
    assert np.isnan([row["p"], row["low"], row["high"], row["p_equivalence"]]).all()
    assert ONE_SET in row["note"]
    assert row["place"] is None


def test_what_was_gained_and_lost_by_hand():
    before = np.array([True, True, False, False] * 5)
    after = np.array([[True, False, True, False] * 5])
    tasks, groups = np.full(20, "existence"), np.arange(20)
    margin = np.where(after, 2.0, 0.5) - 1.0
    ids = groups.astype(str)
    runs = Runs(before, after, after != before, margin, tasks, tasks, groups, 20, False, ids)
    row = _effect(runs.baseline, runs, EFFECTS, 0, macro=False)
    assert (row["gained"], row["lost"], row["changed"]) == (0.25, 0.25, 0.5)
    assert row["effect"] == 0.0
    assert row["margin"] == pytest.approx(0.25)
    assert row["margin_low"] < 0.25 < row["margin_high"]
    assert row["per_seed"] == [0.0]


def test_hiding_is_compared_with_a_blank_image_on_the_items_of_both():
    """The blank image was shown to items 0 to 39, tokens were hidden of items 20 to 59."""
    n, tasks = 40, np.full(40, "existence")

    def of(items, after):
        after = np.array([after], bool)
        ids = np.array([f"{index:02d}" for index in items])
        before, margin = np.ones(n, bool), np.zeros((1, n))
        return Runs(
            before, after, ~after, margin, tasks, tasks, np.array(items), 60, False, ids
        )  # fmt: skip

    blank = of(range(40), [0] * 20 + [1, 1, 1, 1, 0] * 4)
    hidden = of(range(20, 60), [0, 0, 0, 1, 0] * 4 + [1] * 20)
    found = _beyond_blank(hidden, blank)
    assert found["to_blank"] == pytest.approx(100 * (1 - 4) / 5)  # of items 20 to 39 alone
    assert found["to_blank_low"] < found["to_blank"] < found["to_blank_high"]
    for nothing in (_beyond_blank(hidden, None), _beyond_blank(of(range(60, 100), [1] * n), blank)):
        assert np.isnan(list(nothing.values())).all()


CONDITIONS = StudyConditions(
    ablate={
        "top_5": AblationCondition("top", 5),
        "random_5": AblationCondition("random", 5),
    }
)


def two_models(seed, *, spread, shift):
    """A condition that costs one model `shift` more than another; sets that vary by `spread`."""
    random = np.random.default_rng(seed)
    found = {}
    for model, extra in (("one", shift), ("other", 0.0)):
        before = random.random(N_ITEMS) < P_RIGHT
        shifts = random.normal(0, spread, 21)
        found[model] = {
            "top_5": runs_of(random, before, [shifts[0] + extra], one_set=False),
            "random_5": runs_of(random, before, shifts[1:], one_set=True),
        }
    return {
        row["condition"]: row
        for row in differences_between_models(found, "ablate", CONDITIONS, seed="s", sign_flips=300)
    }


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_models_alike_are_rarely_told_apart(spread):
    found = [two_models(seed, spread=spread, shift=0.0) for seed in range(300)]
    for name in ("random_5", "top_5 - random_5"):
        wrong = np.mean([rows[name]["p"] < 0.05 for rows in found])
        assert wrong <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / len(found)), name
    if spread == 0.0:  # a set of its own has no spread to be compared with
        wrong = np.mean([rows["top_5"]["p"] < 0.05 for rows in found])
        assert 0.02 < wrong <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / len(found))


def test_models_that_differ_are_told_apart_by_how_much():
    found = [two_models(seed, spread=0.0, shift=0.2)["top_5 - random_5"] for seed in range(60)]
    # Right answers are lost by a fifth more.
    truth = -100 * 0.2 * P_RIGHT
    covered = np.mean([row["low"] <= truth <= row["high"] for row in found])
    assert covered > 0.85
    assert np.mean([row["p"] < 0.05 for row in found]) > 0.8
    assert {row["model"] for row in found} == {"one - other"}


def test_a_difference_between_models_by_hand():
    """Item by item, of the items that both have; the items' images are clusters."""
    ids = np.array(["a", "b", "c", "d"])

    def of(before, after, ids):
        before, after = np.array(before, bool), np.array([after], bool)
        n = len(ids)
        return Runs(
            before, after, after != before, np.zeros((1, n)), np.full(n, "t"), np.full(n, "t"),
            np.arange(n), 4, False, np.array(ids),
        )  # fmt: skip

    one = {"top_5": of([1, 1, 1, 0], [0, 0, 1, 0], ids)}
    other = {"top_5": of([1, 0, 0], [1, 1, 0], ids[:3])}
    [row] = differences_between_models(
        {"x": one, "y": other}, "ablate", CONDITIONS, seed="s", sign_flips=300
    )
    # −100, −100, 0 against 0, +100, 0.
    assert row["effect"] == pytest.approx(np.mean([-100, -200, 0]))
    assert row["n"] == 3
    assert row["se"] == pytest.approx(np.std([-100, -200, 0], ddof=1) / np.sqrt(3))
    assert np.isnan(row["low"])  # three images give no interval
    assert "too few images" in row["note"]
    assert row["p"] == 0.5  # two of four signs of −100 and −200 reach their sum

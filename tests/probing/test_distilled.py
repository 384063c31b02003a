import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.distilled import fit_distilled
from vrp.probing.folds import ProbeItems, plan_folds


def planted(n=400, d=30):
    """A target that is a tenth-step share, linear in the states up to noise."""
    random = np.random.default_rng(0)
    states = random.normal(size=(n, d))
    share = np.clip(0.7 + states @ random.normal(size=d) / 20 + random.normal(size=n) / 20, 0.1, 1)
    labels = random.random(n) < share
    items = ProbeItems.of(np.arange(n), labels, np.arange(n) // 2, np.zeros(n, int))
    return states, np.round(share, 1), items, plan_folds(items, seed="s")


def test_predicts_the_planted_share_on_held_out_images():
    states, share, items, plan = planted()
    found = fit_distilled(states, share, items, plan)
    assert np.corrcoef(found.scores, share)[0, 1] > 0.9
    assert not found.is_probability


def test_equals_ridge_regression_at_one_of_the_penalties():
    states, share, items, plan = planted()
    found = fit_distilled(states, share, items, plan)
    split = plan.splits[0]
    scaler = StandardScaler().fit(states[split.train])
    train, test = scaler.transform(states[split.train]), scaler.transform(states[split.test])
    errors = [
        np.abs(Ridge(alpha=alpha).fit(train, share[split.train]).predict(test)
               - found.scores[split.test]).max()
        for alpha in (1, 10, 100, 1000, 1e4, 1e5)
    ]  # fmt: skip
    assert min(errors) < 1e-6


def test_held_out_targets_change_nothing():
    states, share, items, plan = planted()
    split = plan.splits[2]
    other = share.copy()
    other[split.test] = 0.1
    before, after = (fit_distilled(states, one, items, plan).scores for one in (share, other))
    assert (before[split.test] == after[split.test]).all()


def test_items_without_a_target_are_scored_and_not_fitted_on():
    states, share, items, plan = planted()
    gappy = np.where(np.arange(share.size) % 7 == 0, np.nan, share)
    assert np.isfinite(fit_distilled(states, gappy, items, plan).scores).all()
    with pytest.raises(InputError, match="one target per item"):
        fit_distilled(states, share[:-1], items, plan)

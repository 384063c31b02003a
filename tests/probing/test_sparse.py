import math

import numpy as np
import pytest
from scipy.special import expit

from vrp.errors import InputError
from vrp.probing.folds import plan_folds
from vrp.probing.sparse import fit_sparse, share_nonzero, share_of_top
from vrp.stats.auroc import auroc


def test_finds_the_planted_neurons(planted):
    made = planted(1500)
    states = made.random.normal(size=(1500, 60))
    planted_neurons = [7, 21, 40]
    log_odds = states[:, planted_neurons] @ [2.0, -1.5, 1.0]
    items = made.items.with_labels(made.random.random(1500) < expit(log_odds))
    plan = plan_folds(items, seed="s")
    result = fit_sparse(states, items, plan)
    assert auroc(result.scores, items.correct, strata=plan.fold) > 0.85
    for fit in result.fits:
        assert np.argsort(-np.abs(fit.weights))[:3].tolist() == planted_neurons
        assert share_of_top(fit.weights, 3) > 0.6
        assert fit.weights[21] < 0
    # More penalty, fewer neurons.
    sparser = fit_sparse(states, items, plan, penalty=0.01)
    assert share_nonzero(sparser.fits[0].weights) < share_nonzero(result.fits[0].weights) < 1


def test_meets_the_optimality_conditions_of_the_l1_problem(planted):
    # At the optimum, C·|gradient| equals 1 where a weight is not zero and is at most 1 elsewhere.
    made = planted(600)
    states = made.random.normal(size=(600, 30))
    states[:, 3] += made.evidence
    plan = plan_folds(made.items, seed="s")
    fit = fit_sparse(states, made.items, plan).fits[0]
    train = plan.splits[0].train
    scaled = (states[train] - states[train].mean(0)) / states[train].std(0)
    labels = made.items.correct[train]
    intercepts = np.linspace(-3, 3, 6001)
    residual = [abs((expit(scaled @ fit.weights + b) - labels).sum() - 0) for b in intercepts]
    intercept = intercepts[int(np.argmin(residual))]
    gradient = 0.1 * scaled.T @ (expit(scaled @ fit.weights + intercept) - labels)
    kept = fit.weights != 0
    assert kept.any()
    assert not kept.all()
    assert gradient[kept] == pytest.approx(-np.sign(fit.weights[kept]), abs=0.05)
    assert np.abs(gradient[~kept]).max() < 1.05


def test_shares_by_hand():
    weights = [0.0, -3.0, 1.0, 1.0, 0.0, 5.0]
    assert share_of_top(weights, 2) == 0.8
    assert share_nonzero(weights) == pytest.approx(4 / 6)
    assert math.isnan(share_of_top([0.0, 0.0]))
    assert math.isnan(share_nonzero([]))


def test_bad_penalty_is_refused(planted):
    made = planted(100)
    with pytest.raises(InputError):
        fit_sparse(np.zeros((100, 2)), made.items, plan_folds(made.items, seed="s"), penalty=0)

"""The ROC curve within strata: scikit-learn's for one stratum, and the AUROC as its area."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from vrp.stats.auroc import stratified_auroc, van_elteren_weight
from vrp.stats.roc import stratified_roc


def area(curve):
    return np.trapezoid(curve.true_positive, curve.false_positive)


def drawn(n, *, seed=0, levels=None):
    """Signals that know a little, three strata of unequal size, two items an image."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.6
    signal = rng.normal(size=n) + 0.8 * correct
    if levels:
        signal = np.round(signal * levels) / levels
    strata = rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=n)
    return signal, correct, np.arange(n) // 2, strata


def test_one_stratum_is_scikit_learns_curve():
    signal, correct, codes, _ = drawn(200, levels=4)
    found = stratified_roc(signal, correct, codes, np.full(200, "all"))
    false_positive, true_positive, _ = roc_curve(correct, signal)
    # Points of the other's curve lie on ours, before or after a step.
    for x, y in zip(false_positive, true_positive, strict=True):
        here = np.isclose(found.false_positive, x)
        assert here.any()
        assert np.isclose(found.true_positive[here], y).any()
    assert area(found) == pytest.approx(roc_auc_score(correct, signal))


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("with_folds", [False, True])
def test_the_area_is_the_auroc_within_strata(levels, with_folds):
    signal, correct, codes, strata = drawn(900, levels=levels)
    signal[::17] = np.nan
    folds = codes % 5 if with_folds else None
    found = stratified_roc(signal, correct, codes, strata, folds=folds)
    wanted = stratified_auroc(signal, correct, codes, strata, n_images=450, folds=folds)
    assert area(found) == pytest.approx(wanted.value, abs=1e-12)
    assert (np.diff(found.false_positive) >= 0).all()
    assert (np.diff(found.true_positive) >= -1e-12).all()
    for ends in found:
        assert (ends[0], ends[-1]) == (0, pytest.approx(1))


def test_strata_are_averaged_with_van_elterens_weights():
    """A stratum that is separated and one that is reversed, by hand."""
    correct = np.array([True] * 10 + [False] * 20 + [True] * 30 + [False] * 10)
    signal = np.where(correct, 1.0, 0.0)
    signal[30:] *= -1
    strata = np.array(["a"] * 30 + ["b"] * 40)
    found = stratified_roc(signal, correct, np.arange(70), strata)
    a, b = van_elteren_weight(10, 20), van_elteren_weight(30, 10)
    share = a / (a + b)
    np.testing.assert_allclose(found.false_positive, [0, 0, 1, 1])
    np.testing.assert_allclose(found.true_positive, [0, share, share, 1])


def test_no_curve_where_every_stratum_is_too_small():
    found = stratified_roc([0.0, 1.0], [False, True], np.arange(2), ["a", "a"])
    assert found.false_positive.size == found.true_positive.size == 0

import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.auroc import clustered_auroc
from vrp.stats.clusters import clustered_mean, mean_of
from vrp.stats.correlation import clustered_correlation
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import ALPHA


def p_of_auroc(signal, correct, groups):
    codes = np.asarray(groups)
    n_images = int(codes.max()) + 1
    found = clustered_auroc(signal, correct, codes, n_images=n_images, name="cell")
    return equivalence_p(found, low=0.45, high=0.55)


def p_of_correlation(signal, correct, groups):
    codes = np.asarray(groups)
    n_images = int(codes.max()) + 1
    found = clustered_correlation(signal, correct, codes, n_images=n_images, name="cell")
    return equivalence_p(found, low=-0.1, high=0.1)


def test_tost_of_a_mean_equals_two_t_tests_of_scipy():
    # One item an image: the clustered mean is an ordinary mean, so scipy's t tests apply.
    random = np.random.default_rng(0)
    before, after = (random.random((2, 4000)) < 0.5).astype(int)
    change = 100.0 * (after - before)
    mean = clustered_mean(change, np.arange(4000), n_images=4000)
    above = stats.ttest_1samp(change, -2.0, alternative="greater").pvalue
    below = stats.ttest_1samp(change, 2.0, alternative="less").pvalue
    assert equivalence_p(mean, low=-2.0, high=2.0) == pytest.approx(max(above, below), rel=1e-9)


def test_zero_correlation_and_chance_auroc_are_near_zero_with_many_items_only():
    random = np.random.default_rng(1)
    signal, correct = random.normal(size=4000), random.integers(0, 2, 4000)
    groups = np.arange(4000) // 2
    for p_of in (p_of_auroc, p_of_correlation):
        assert p_of(signal, correct, groups) < ALPHA
        assert p_of(signal[:60], correct[:60], groups[:60]) > ALPHA


def test_a_real_effect_is_never_called_near_zero():
    random = np.random.default_rng(2)
    correct = random.integers(0, 2, 4000)
    signal = random.normal(size=4000) + 0.5 * correct  # AUROC 0.64, R 0.24
    for p_of in (p_of_auroc, p_of_correlation):
        assert p_of(signal, correct, np.arange(4000)) > 0.99


def test_level_holds_at_the_bound():
    # Truth exactly on the bound: equivalence must be claimed more rarely than alpha (5% of 300).
    random = np.random.default_rng(3)
    shift = math.sqrt(2) * stats.norm.ppf(0.55)
    claims = 0
    for _ in range(300):
        correct = random.integers(0, 2, 800)
        signal = random.normal(size=800) + shift * correct
        claims += p_of_auroc(signal, correct, np.arange(800)) < ALPHA
    assert claims / 300 < 0.09


def test_clusters_make_it_no_easier():
    random = np.random.default_rng(4)
    label, score = random.integers(0, 2, 1000), random.normal(size=1000)
    once = p_of_auroc(score, label, np.arange(1000))
    copied = p_of_auroc(np.repeat(score, 5), np.repeat(label, 5), np.repeat(range(1000), 5))
    assert copied == pytest.approx(once, rel=0.05)  # five copies are no new evidence


def test_an_average_over_tasks_can_be_tested():
    random = np.random.default_rng(5)
    signal, correct = random.normal(size=4000), random.integers(0, 2, 4000)
    codes = np.arange(4000) // 2
    parts = {
        task: clustered_auroc(signal[here], correct[here], codes[here], n_images=2000, name=task)
        for task, here in (("a", slice(1, None, 2)), ("b", slice(0, None, 2)))
    }
    assert equivalence_p(mean_of(parts, n_groups=2000), low=0.45, high=0.55) < ALPHA


def test_what_is_undefined_is_not_tested():
    one_class = clustered_auroc(
        np.arange(30.0), np.ones(30), np.arange(30), n_images=30, name="cell"
    )
    assert math.isnan(equivalence_p(one_class, low=-1, high=1))
    without_variance = clustered_mean(np.ones(9), np.arange(9), n_images=9)
    assert math.isnan(equivalence_p(without_variance, low=-1, high=1))
    with pytest.raises(InputError, match="low < high"):
        equivalence_p(without_variance, low=1, high=-1)

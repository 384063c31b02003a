import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.auroc import bootstrap_auroc, delong
from vrp.stats.bootstrap import BootstrapEstimate, macro_average, resample_groups
from vrp.stats.correlation import bootstrap_point_biserial
from vrp.stats.equivalence import equivalence_p
from vrp.stats.estimate import ALPHA


def with_se(value, se, n_groups):
    """An estimate whose replicates have exactly this standard error."""
    replicates = value + se / math.sqrt(2) * np.array([-1.0, 1.0])
    return BootstrapEstimate(value, replicates, n_groups, n_groups, "")


def p_of_auroc(signal, correct, groups):
    estimate = delong(signal, correct, groups=groups)
    se = (estimate.high - estimate.value) / stats.norm.ppf(0.975)
    return equivalence_p(with_se(estimate.value, se, estimate.n_groups), low=0.45, high=0.55)


def p_of_correlation(signal, correct, groups):
    resamples = resample_groups(groups, seed="s", n_boot=400)
    boot = bootstrap_point_biserial(signal, correct, groups, resamples=resamples)
    return equivalence_p(boot, low=-0.1, high=0.1)


def test_tost_of_a_mean_equals_two_t_tests_of_scipy():
    # One item an image: the clustered mean is an ordinary mean, so scipy's t tests apply.
    random = np.random.default_rng(0)
    before, after = (random.random((2, 4000)) < 0.5).astype(int)
    change = 100.0 * (after - before)
    mean = with_se(float(change.mean()), float(stats.sem(change)), 4000)
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


def test_macro_average_can_be_tested():
    random = np.random.default_rng(5)
    n = 4000
    groups = np.arange(n) // 2
    resamples = resample_groups(groups, seed="s", n_boot=400)
    signal, correct = random.normal(size=n), random.integers(0, 2, n)
    parts = {
        task: bootstrap_auroc(signal[here], correct[here], groups[here], resamples=resamples)
        for task, here in (("a", slice(1, None, 2)), ("b", slice(0, None, 2)))
    }
    macro = macro_average(parts, n_groups=n // 2)
    assert equivalence_p(macro, low=0.45, high=0.55) < ALPHA


def test_what_is_undefined_is_not_tested():
    one_class = with_se(math.nan, math.nan, 3)
    assert math.isnan(equivalence_p(one_class, low=-1, high=1))
    assert math.isnan(equivalence_p(with_se(0.0, 0.1, 1), low=-1, high=1))
    with pytest.raises(InputError, match="low < high"):
        equivalence_p(with_se(0, 1, 3), low=1, high=-1)

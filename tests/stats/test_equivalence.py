import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.auroc import bootstrap_auroc
from vrp.stats.bootstrap import bootstrap_within, resample_groups
from vrp.stats.equivalence import (
    equivalent_auroc,
    equivalent_correlation,
    equivalent_effect,
    two_one_sided_tests,
)
from vrp.stats.estimate import PointSE


def test_tost_of_a_mean_equals_two_t_tests_of_scipy():
    # One item an image: the clustered mean is an ordinary mean, so scipy's t tests apply.
    random = np.random.default_rng(0)
    before, after = (random.random((2, 4000)) < 0.5).astype(int)
    change = 100.0 * (after - before)
    ours = equivalent_effect(before, after, np.arange(4000), bound_pp=2.0)
    above = stats.ttest_1samp(change, -2.0, alternative="greater").pvalue
    below = stats.ttest_1samp(change, 2.0, alternative="less").pvalue
    assert ours.p == pytest.approx(max(above, below), rel=1e-9)
    interval = stats.ttest_1samp(change, 0.0).confidence_interval(0.90)
    assert (ours.low, ours.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert ours.equivalent == (ours.low > -2.0 and ours.high < 2.0)


def test_zero_correlation_and_chance_auroc_are_near_zero_with_many_items_only():
    random = np.random.default_rng(1)
    signal, correct = random.normal(size=4000), random.integers(0, 2, 4000)
    groups = np.arange(4000) // 2
    assert equivalent_correlation(signal, correct, groups).equivalent
    assert equivalent_auroc(signal, correct, groups).equivalent
    few = slice(0, 60)
    assert not equivalent_correlation(signal[few], correct[few], groups[few]).equivalent
    assert not equivalent_auroc(signal[few], correct[few], groups[few]).equivalent


def test_a_real_effect_is_never_called_near_zero():
    random = np.random.default_rng(2)
    correct = random.integers(0, 2, 4000)
    signal = random.normal(size=4000) + 0.5 * correct  # AUROC 0.64, R 0.24
    groups = np.arange(4000)
    assert not equivalent_correlation(signal, correct, groups).equivalent
    assert not equivalent_auroc(signal, correct, groups).equivalent


def test_level_holds_at_the_bound():
    # Truth exactly on the bound: "equivalent" must be rarer than alpha (here 5% of 300).
    random = np.random.default_rng(3)
    area = 0.55
    shift = math.sqrt(2) * stats.norm.ppf(area)
    claims = 0
    for _ in range(300):
        correct = random.integers(0, 2, 800)
        signal = random.normal(size=800) + shift * correct
        claims += equivalent_auroc(signal, correct, np.arange(800)).equivalent
    assert claims / 300 < 0.09


def test_clusters_make_it_harder():
    random = np.random.default_rng(4)
    label, score = random.integers(0, 2, 1000), random.normal(size=1000)
    once = equivalent_auroc(score, label, np.arange(1000))
    copied = equivalent_auroc(np.repeat(score, 5), np.repeat(label, 5), np.repeat(range(1000), 5))
    assert copied.se == pytest.approx(once.se, rel=0.01)  # five copies are no new evidence


def test_macro_average_can_be_tested():
    random = np.random.default_rng(5)
    n = 4000
    groups = np.arange(n) // 2
    resamples = resample_groups(groups, seed="s", n_boot=400)
    within = bootstrap_within(
        bootstrap_auroc,
        random.normal(size=n),
        random.integers(0, 2, n),
        groups,
        by=np.where(np.arange(n) % 2, "a", "b"),
        resamples=resamples,
    )
    assert two_one_sided_tests(within.macro, bound_low=0.45, bound_high=0.55).equivalent


def test_undefined_is_not_equivalent():
    result = two_one_sided_tests(
        PointSE(math.nan, math.nan, 3, 3, "one class"), bound_low=-1, bound_high=1
    )
    assert not result.equivalent
    assert result.note.startswith("one class; no test")
    with pytest.raises(InputError, match="bound_low < bound_high"):
        two_one_sided_tests(PointSE(0, 1, 3, 3, ""), bound_low=1, bound_high=-1)

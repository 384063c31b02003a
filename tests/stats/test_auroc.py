import math
import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from vrp.stats import auroc as auroc_module
from vrp.stats.auroc import auroc, bootstrap_auroc
from vrp.stats.bootstrap import resample_groups


def delong(signal, correct, groups=None):
    return auroc_module.delong(
        signal, correct, groups=np.arange(len(signal)) if groups is None else groups
    )


def _se(estimate):
    return (estimate.high - estimate.value) / stats.norm.ppf(0.975)


def _brute_force(signal, correct):
    """AUROC and DeLong's variance straight from the definition, all pairs."""
    positive, negative = signal[correct == 1], signal[correct == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    s10, s01 = np.var(kernel.mean(axis=1), ddof=1), np.var(kernel.mean(axis=0), ddof=1)
    return kernel.mean(), s10 / positive.size + s01 / negative.size


def _normal_scores(random, n, area):
    correct = random.integers(0, 2, n)
    return random.normal(size=n) + math.sqrt(2) * stats.norm.ppf(area) * correct, correct


def test_hand_worked_with_ties():
    # positives 3, 2; negatives 2, 1: pairs 1, 1, ½, 1 → 3.5/4
    assert auroc([3, 2, 2, 1], [1, 1, 0, 0]) == 0.875
    assert auroc([1, 1, 1, 1], [1, 1, 0, 0]) == 0.5
    assert auroc([0, 1], [1, 0]) == 0.0


@pytest.mark.parametrize("levels", [None, 11, 2])
def test_equals_brute_force_and_sklearn(levels):
    random = np.random.default_rng(0)
    signal, correct = _normal_scores(random, 150, 0.7)
    if levels:
        signal = np.digitize(signal, np.linspace(-2, 2, levels - 1)).astype(float)
    value, variance = _brute_force(signal, correct)
    point = delong(signal, correct)
    assert point.value == pytest.approx(roc_auc_score(correct, signal), abs=1e-12)
    assert point.value == pytest.approx(value, abs=1e-12)
    assert _se(point) == pytest.approx(math.sqrt(variance), rel=1e-10)
    assert point.p == pytest.approx(2 * stats.norm.sf(abs(value - 0.5) / _se(point)), rel=1e-9)


def test_strata_compare_only_within():
    # Within each stratum the signal is useless; across them it tells the strata apart.
    signal = np.array([1, 1, 1, 1, 9, 9, 9, 9.0])
    correct = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    assert auroc(signal, correct) > 0.7
    assert auroc(signal, correct, strata=[0, 0, 0, 0, 1, 1, 1, 1]) == 0.5
    random = np.random.default_rng(2)
    values, labels = _normal_scores(random, 200, 0.7)
    strata = random.integers(0, 4, 200)
    areas, pairs = [], []
    for s in range(4):
        here = strata == s
        areas.append(roc_auc_score(labels[here], values[here]))
        pairs.append(labels[here].sum() * (1 - labels[here]).sum())
    assert auroc(values, labels, strata=strata) == pytest.approx(np.average(areas, weights=pairs))


@pytest.mark.parametrize("stratified", [False, True])
def test_bootstrap_replicates_equal_sklearn_with_weights(stratified):
    random = np.random.default_rng(3)
    signal, correct = _normal_scores(random, 150, 0.65)
    signal = signal.round(1)  # ties
    groups = random.integers(0, 50, 150)
    strata = random.integers(0, 2, 150) if stratified else None
    resamples = resample_groups(groups, seed="s", n_boot=300)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples, strata=strata)
    for b in (0, 255, 256, 299):
        weight = resamples.weights[resamples.codes(groups), b].astype(float)
        if strata is None:
            expected = roc_auc_score(correct, signal, sample_weight=weight)
        else:
            rows = np.repeat(np.arange(150), weight.astype(int))
            expected = auroc(signal[rows], correct[rows], strata=strata[rows])
        assert boot.replicates[b] == pytest.approx(expected, abs=1e-12)


def test_clustered_standard_error_agrees_with_the_bootstrap():
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(300), 6)
    shared = random.normal(size=300)
    correct = (shared[groups] + random.normal(size=1800) > 0).astype(int)
    signal = shared[groups] + random.normal(size=1800)
    resamples = resample_groups(groups, seed="s", n_boot=1000)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples)
    clustered = delong(signal, correct, groups)
    assert _se(clustered) == pytest.approx(boot.se, rel=0.1)
    assert _se(clustered) > 1.2 * _se(delong(signal, correct))
    assert clustered.n_groups == 300


def test_clustering_narrows_the_interval_where_images_only_shift_the_signal():
    # An image's offset moves its right and its wrong items alike and cancels between them.
    random = np.random.default_rng(9)
    groups = np.repeat(np.arange(300), 6)
    correct = np.tile([0, 1], 900)
    signal = 3 * random.normal(size=300)[groups] + correct + random.normal(size=1800)
    resamples = resample_groups(groups, seed="s", n_boot=1000)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples)
    clustered = delong(signal, correct, groups)
    assert _se(clustered) == pytest.approx(boot.se, rel=0.1)
    assert _se(clustered) < 0.6 * _se(delong(signal, correct))


def test_interval_covers_a_planted_auroc():
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        estimate = delong(*_normal_scores(random, 200, 0.75))
        covered += estimate.low <= 0.75 <= estimate.high
    assert 0.91 <= covered / 300 <= 0.98


def test_clustered_bootstrap_covers_a_planted_auroc():
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(80), 4)
    covered = 0
    for i in range(100):
        # The label is the image's: 80 independent looks, not 320.
        label = random.integers(0, 2, 80)
        signal = random.normal(size=80) + math.sqrt(2) * stats.norm.ppf(0.7) * label
        resamples = resample_groups(groups, seed=f"c{i}", n_boot=200)
        boot = bootstrap_auroc(signal[groups], label[groups], groups, resamples=resamples)
        estimate = boot.estimate(null=0.5)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.87 <= covered / 100 <= 0.99


def test_one_class_is_said():
    resamples = resample_groups(range(4), seed="s", n_boot=10)
    for correct in (np.ones(4), np.zeros(4)):
        assert math.isnan(auroc(np.arange(4), correct))
        assert "no pair" in delong(np.arange(4), correct).note
        boot = bootstrap_auroc(np.arange(4), correct, range(4), resamples=resamples)
        assert math.isnan(boot.value)
        assert "no pair" in boot.note
    perfect = delong([4, 3, 2, 1], [1, 1, 0, 0])
    assert perfect.value == 1.0
    assert math.isnan(perfect.low)
    assert "no interval" in perfect.note


def test_missing_signal_is_dropped_and_counted_and_infinity_is_ranked():
    estimate = delong([np.nan, np.inf, 2, 1, -np.inf, 1.5], [0, 1, 1, 0, 0, 0])
    assert estimate.n == 5
    assert "1 of 6" in estimate.note
    assert estimate.value == 1.0


def test_row_order_does_not_matter():
    random = np.random.default_rng(7)
    signal, correct = _normal_scores(random, 100, 0.6)
    groups = random.integers(0, 30, 100)
    shuffle = random.permutation(100)
    results = []
    for rows in (np.arange(100), shuffle):
        resamples = resample_groups(groups[rows], seed="s", n_boot=100)
        boot = bootstrap_auroc(signal[rows], correct[rows], groups[rows], resamples=resamples)
        results.append((boot.value, boot.replicates))
    assert results[0][0] == results[1][0]
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-12)


def test_fast_enough_for_a_study():
    # 20 signals × 3 models × 2,000 resamples in well under a minute: one signal in under 0.5 s.
    random = np.random.default_rng(8)
    signal, correct = _normal_scores(random, 3090, 0.6)
    groups = random.integers(0, 1200, 3090)
    resamples = resample_groups(groups, seed="s", n_boot=2000)
    start = time.process_time()
    bootstrap_auroc(signal, correct, groups, resamples=resamples)
    assert time.process_time() - start < 1.0

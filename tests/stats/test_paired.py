import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats import paired
from vrp.stats.bootstrap import resample_groups
from vrp.stats.clusters import group_sums
from vrp.stats.paired import bootstrap_difference, mcnemar, sign_flip_test


def test_sign_flip_by_hand():
    # |Σ| = 3 of ±1 ±1 ±1: two of eight assignments reach it.
    assert sign_flip_test([1, 1, 1], seed="s") == 0.25
    # Σ = 2; ±1 ±1 ±2 is ±4 twice, ±2 four times, 0 twice: six of eight reach 2.
    assert sign_flip_test([1, -1, 2], seed="s") == 0.75
    assert sign_flip_test([0, 0, 0], seed="s") == 1.0
    # Zeros add nothing.
    assert sign_flip_test([1, 1, 1, 0, 0], seed="s") == 0.25


def test_the_three_ways_agree(monkeypatch):
    random = np.random.default_rng(0)
    nets = random.integers(-2, 4, 13).astype(float)
    listed = sign_flip_test(nets, seed="s")
    monkeypatch.setattr(paired, "ENUMERATION_LIMIT", 1)
    assert sign_flip_test(nets, seed="s") == pytest.approx(listed, abs=1e-12)
    monkeypatch.setattr(paired, "CONVOLUTION_LIMIT", 0)
    drawn = sign_flip_test(nets, seed="s")
    assert drawn == pytest.approx(listed, abs=4 * math.sqrt(listed / 10_000))
    assert drawn == sign_flip_test(nets, seed="s")


def test_unit_nets_equal_the_binomial_test():
    # With one item an image, the sign-flip test is McNemar's exact test.
    nets = np.array([-1.0] * 40 + [1.0] * 20 + [0.0] * 100)
    expected = stats.binomtest(20, 60, 0.5).pvalue
    assert sign_flip_test(nets, seed="s") == pytest.approx(expected, rel=1e-9)
    assert mcnemar(20, 40) == pytest.approx(expected)
    assert mcnemar(0, 0) == 1.0


def test_monte_carlo_never_says_zero():
    p = sign_flip_test(np.ones(200) + 0.5, seed="s", n_draws=100)
    assert p == 1 / 101


def test_an_effect_by_hand():
    before = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    after = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 0])
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]
    resamples = resample_groups(groups, seed="s", n_boot=500)
    boot = bootstrap_difference(before, after, groups, resamples=resamples)
    assert boot.value == pytest.approx(-20.0)
    assert boot.n_groups == 5
    assert mcnemar(1, 3) == pytest.approx(stats.binomtest(1, 4).pvalue)
    # Nets a −2, c +1, e −1: Σ = −2; |±2 ±1 ±1| ≥ 2 in 6 of 8.
    nets = group_sums((after - before).astype(float), resamples.codes(groups))
    assert nets.tolist() == [-2, 0, 1, 0, -1]
    assert sign_flip_test(nets, seed="s") == 0.75


def test_replicates_equal_recomputed_means():
    random = np.random.default_rng(1)
    before, after = random.integers(0, 2, (2, 90))
    groups = random.integers(0, 25, 90)
    resamples = resample_groups(groups, seed="s", n_boot=30)
    boot = bootstrap_difference(before, after, groups, resamples=resamples)
    for b in (0, 29):
        rows = np.repeat(np.arange(90), resamples.weights[resamples.codes(groups), b])
        assert boot.replicates[b] == pytest.approx(100 * (after[rows] - before[rows]).mean())


@pytest.mark.slow
def test_interval_covers_a_planted_effect_with_clusters():
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 5)
    covered = 0
    for i in range(150):
        # The image decides whether all its five items are lost: true effect −30 pp.
        lost = random.random(60) < 0.3
        before = np.ones(300, dtype=int)
        after = (~lost[groups]).astype(int)
        resamples = resample_groups(groups, seed=f"c{i}", n_boot=300)
        boot = bootstrap_difference(before, after, groups, resamples=resamples)
        estimate = boot.estimate()
        covered += estimate.low <= -30.0 <= estimate.high
    assert 0.88 <= covered / 150 <= 0.99


def test_sign_flips_of_a_random_choice_are_null():
    """One of six equal runs against the mean of the others, as specificity is tested."""
    random = np.random.default_rng(5)
    groups = np.arange(200) // 2
    p = []
    for i in range(60):
        runs = (random.random((6, 200)) > 0.2).astype(float)
        nets = group_sums(5 * runs[0] - runs[1:].sum(axis=0), groups)
        p.append(sign_flip_test(nets, seed=f"n{i}"))
    assert np.mean(np.array(p) < 0.05) < 0.15
    assert np.mean(np.array(p) < 0.5) > 0.25


def test_bad_input_is_refused():
    resamples = resample_groups(["a", "b"], seed="s", n_boot=5)
    with pytest.raises(InputError, match="same items twice"):
        bootstrap_difference([1, 0], [1], ["a", "b"], resamples=resamples)
    with pytest.raises(InputError, match="0 or 1"):
        bootstrap_difference([1, np.nan], [1, 0], ["a", "b"], resamples=resamples)
    with pytest.raises(InputError, match="finite"):
        sign_flip_test([1.0, np.nan], seed="s")

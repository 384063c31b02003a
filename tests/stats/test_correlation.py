import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.bootstrap import resample_groups
from vrp.stats.correlation import (
    bootstrap_point_biserial,
    point_biserial,
)


def _planted(random, n, r):
    """Signal and label whose correlation is r: signal = a·label + noise, label balanced."""
    correct = random.integers(0, 2, n)
    slope = 2 * r / math.sqrt(1 - r * r)
    return slope * correct + random.normal(size=n), correct


def _within(signal, correct, strata):
    """Correlation of what is left of both when each stratum's mean is taken off."""
    own = [np.where(strata == s, 1.0, 0.0) for s in range(3)]
    left = [v - sum(m * (v @ m) / max(m.sum(), 1) for m in own) for v in (signal, correct)]
    return np.corrcoef(*left)[0, 1]


def test_equals_scipy():
    signal, correct = _planted(np.random.default_rng(0), 200, 0.3)
    ours = point_biserial(signal, correct)
    theirs = stats.pointbiserialr(correct, signal)
    interval = stats.pearsonr(signal, correct).confidence_interval(0.95)
    assert ours.value == pytest.approx(theirs.statistic, abs=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize(("r", "low", "high"), [(0.001, -0.034, 0.036), (-0.012, -0.047, 0.024)])
def test_published_intervals_are_fisher_z_intervals(r, low, high):
    # arXiv 2605.08200, n = 3,090; all three published numbers are rounded.
    random = np.random.default_rng(4)
    correct = np.arange(3090) % 2
    label = (correct - 0.5) / 0.5
    noise = random.normal(size=3090)
    noise -= noise.mean() + label * (noise @ label) / 3090
    ours = point_biserial(r * label + math.sqrt(1 - r * r) * noise / noise.std(), correct)
    assert ours.value == pytest.approx(r, abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-3)


def test_centring_within_strata_removes_what_only_tells_them_apart():
    random = np.random.default_rng(1)
    stratum = np.repeat([0, 1], 500)
    correct = (random.random(1000) < np.where(stratum, 0.9, 0.2)).astype(int)
    signal = 5.0 * stratum + random.normal(size=1000)
    assert point_biserial(signal, correct).value > 0.5
    resamples = resample_groups(range(1000), seed="s", n_boot=1)
    within = bootstrap_point_biserial(
        signal, correct, range(1000), resamples=resamples, strata=stratum
    )
    assert abs(within.value) < 0.1
    # Partial correlation given the stratum, by regression residuals: an independent route.
    design = np.column_stack([np.ones(1000), stratum])
    residual = [v - design @ np.linalg.lstsq(design, v)[0] for v in (signal, correct.astype(float))]
    assert within.value == pytest.approx(np.corrcoef(*residual)[0, 1], abs=1e-12)


def test_bootstrap_replicates_equal_recomputed_correlations():
    random = np.random.default_rng(2)
    signal, correct = _planted(random, 120, 0.4)
    groups = np.array([f"g{i}" for i in random.integers(0, 40, 120)])
    strata = random.integers(0, 3, 120)
    resamples = resample_groups(groups, seed="s", n_boot=300)
    plain = bootstrap_point_biserial(signal, correct, groups, resamples=resamples)
    centred = bootstrap_point_biserial(signal, correct, groups, resamples=resamples, strata=strata)
    for b in (0, 7, 299):
        times = resamples.weights[resamples.codes(groups), b]
        rows = np.repeat(np.arange(120), times)
        assert plain.replicates[b] == pytest.approx(
            np.corrcoef(signal[rows], correct[rows])[0, 1], abs=1e-9
        )
        assert centred.replicates[b] == pytest.approx(
            _within(signal[rows], correct[rows], strata[rows]), abs=1e-9
        )


def test_the_bootstrap_sees_clusters():
    random = np.random.default_rng(3)
    n_images, each = 400, 5
    groups = np.repeat(np.arange(n_images), each)
    shared_x, shared_y = random.normal(size=(2, n_images))
    signal = shared_x[groups] + 0.5 * random.normal(size=groups.size)
    correct = (shared_y[groups] + 0.5 * random.normal(size=groups.size) > 0).astype(int)
    boot = bootstrap_point_biserial(
        signal, correct, groups, resamples=resample_groups(groups, seed="s", n_boot=1000)
    )
    assert boot.se > 1.5 / math.sqrt(groups.size)


def test_interval_covers_a_planted_r():
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        signal, correct = _planted(random, 300, 0.3)
        estimate = point_biserial(signal, correct)
        covered += estimate.low <= 0.3 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_missing_and_constant_signals_are_said():
    signal = np.array([1.0, 2.0, np.nan, 4.0, 3.0, 0.5])
    correct = [0, 1, 1, 1, 0, 0]
    estimate = point_biserial(signal, correct)
    assert estimate.n == 5
    assert estimate.note == "1 of 6 items dropped: signal missing"
    for constant in (np.full(6, 0.1), np.zeros(6)):
        assert math.isnan(point_biserial(constant, correct).value)
        assert "does not vary" in point_biserial(constant, correct).note
    assert math.isnan(point_biserial(signal, np.ones(6)).value)
    resamples = resample_groups(range(6), seed="s", n_boot=10)
    boot = bootstrap_point_biserial(np.full(6, 0.1), correct, range(6), resamples=resamples)
    assert math.isnan(boot.value)
    assert np.isnan(boot.replicates).all()


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="infinite"):
        point_biserial([1.0, np.inf, 2.0], [0, 1, 1])
    with pytest.raises(InputError, match="0 or 1"):
        point_biserial([1.0, 2.0], [0, 0.3])
    with pytest.raises(InputError, match="one value per item"):
        point_biserial([1.0, 2.0, 3.0], [0, 1])

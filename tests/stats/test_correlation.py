import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.correlation import clustered_correlation, correlation_estimate, point_biserial


def clustered(signal, correct, groups=None, strata=None):
    codes = np.arange(len(signal)) if groups is None else np.asarray(groups)
    return clustered_correlation(
        signal, correct, codes, n_images=int(codes.max()) + 1, name="cell", strata=strata
    )


def _planted(random, n, r):
    """Signal and label whose correlation is r: signal = a·label + noise, label balanced."""
    correct = random.integers(0, 2, n)
    slope = 2 * r / math.sqrt(1 - r * r)
    return slope * correct + random.normal(size=n), correct


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
    within = clustered(signal, correct, strata=stratum)
    assert abs(within.value) < 0.1
    # Partial correlation given the stratum, by regression residuals: an independent route.
    design = np.column_stack([np.ones(1000), stratum])
    residual = [v - design @ np.linalg.lstsq(design, v)[0] for v in (signal, correct.astype(float))]
    assert within.value == pytest.approx(np.corrcoef(*residual)[0, 1], abs=1e-12)


def test_standard_error_is_the_jackknifes():
    random = np.random.default_rng(2)
    signal, correct = _planted(random, 400, 0.4)
    signal = np.exp(signal / 2)  # far from normal, where Fisher's standard error is wrong
    left_out = [np.corrcoef(np.delete(signal, i), np.delete(correct, i))[0, 1] for i in range(400)]
    jackknife = math.sqrt(399 / 400 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert clustered(signal, correct).se == pytest.approx(jackknife, rel=0.03)


def test_clusters_widen_the_interval():
    random = np.random.default_rng(3)
    n_images, each = 400, 5
    groups = np.repeat(np.arange(n_images), each)
    shared_x, shared_y = random.normal(size=(2, n_images))
    signal = shared_x[groups] + 0.5 * random.normal(size=groups.size)
    correct = (shared_y[groups] + 0.5 * random.normal(size=groups.size) > 0).astype(int)
    assert clustered(signal, correct, groups).se > 1.5 / math.sqrt(groups.size)


@pytest.mark.parametrize("levels", [None, 10])
def test_clustered_interval_covers_a_planted_r(levels):
    random = np.random.default_rng(6)
    edges = np.linspace(-1, 2, 9)

    def drawn(n):
        signal, correct = _planted(random, n, 0.3)
        return (np.digitize(signal, edges).astype(float) if levels else signal), correct

    truth = np.corrcoef(*drawn(400_000))[0, 1]
    covered = 0
    for _ in range(400):
        estimate = correlation_estimate(clustered(*drawn(300)))
        covered += estimate.low <= truth <= estimate.high
    assert 0.925 <= covered / 400 <= 0.975


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
    nothing = clustered(np.full(40, 0.1), np.arange(40) < 20)
    assert math.isnan(nothing.value)
    assert "does not vary" in nothing.note
    few = clustered(np.arange(40.0), np.arange(40) < 3)
    assert few.note == "too few right answers: 3"


def test_a_perfect_correlation_has_no_interval():
    correct = np.arange(60) < 30
    found = correlation_estimate(clustered(correct.astype(float), correct))
    assert found.value == pytest.approx(1.0)
    assert math.isnan(found.low)
    assert "no variance" in found.note


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="infinite"):
        point_biserial([1.0, np.inf, 2.0], [0, 1, 1])
    with pytest.raises(InputError, match="0 or 1"):
        point_biserial([1.0, 2.0], [0, 0.3])
    with pytest.raises(InputError, match="one value per item"):
        point_biserial([1.0, 2.0, 3.0], [0, 1])

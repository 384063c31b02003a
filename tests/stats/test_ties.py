"""Values within rounding of each other are level; others are not."""

import math

import numpy as np
import pytest

from vrp.stats import ties
from vrp.stats.auroc import auroc
from vrp.stats.ties import merge_near_ties


def test_hand_worked():
    values = [1.0, 3.0, 1.000001, 2.0, 0.9999999, math.nan, 3.1, -2.0, -2.000001]
    expected = [0.9999999, 3.0, 0.9999999, 2.0, 0.9999999, math.nan, 3.1, -2.000001, -2.000001]
    np.testing.assert_array_equal(merge_near_ties(values), expected)


@pytest.mark.parametrize("seed", range(5))
def test_as_one_value_after_the_other(seed, monkeypatch):
    monkeypatch.setattr(ties, "ROUNDING", 1e-3)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=3000) * 10.0 ** rng.integers(-2, 2)
    values[::7] = values[0]
    expected = values.copy()
    level, end = math.nan, -math.inf
    for index in np.argsort(values, kind="stable"):
        if values[index] > end:
            level, end = values[index], values[index] + 1e-3 * abs(values[index])
        expected[index] = level
    assert 100 < len(np.unique(expected)) < 2000
    np.testing.assert_array_equal(merge_near_ties(values), expected)


def test_a_dense_run_does_not_collapse_into_one_value():
    dense = 1.0 + np.arange(2000) * 2e-7
    levelled = merge_near_ties(dense)
    assert np.all(np.abs(levelled - dense) <= 2e-6 * dense)
    assert len(np.unique(levelled)) == pytest.approx(200, abs=20)
    assert np.all(np.diff(levelled) >= 0)


def test_zero_is_level_with_zero_only():
    np.testing.assert_array_equal(merge_near_ties([0.0, 1e-30, -1e-30]), [0.0, 1e-30, -1e-30])


def test_infinities_stay():
    values = [math.inf, 1.0, -math.inf]
    np.testing.assert_array_equal(merge_near_ties(values), values)


def test_no_values():
    assert merge_near_ties([]).shape == (0,)


def test_rounding_no_longer_decides_an_auroc():
    rng = np.random.default_rng(0)
    image_value = np.repeat(rng.normal(5.0, 1.0, 60), 6)
    correct = rng.random(360) < 0.7
    noisy = [image_value * (1 + rng.uniform(-1e-6, 1e-6, 360)) for _ in range(2)]
    assert auroc(noisy[0], correct) != auroc(noisy[1], correct)
    exact = auroc(image_value, correct)
    for values in noisy:
        assert auroc(merge_near_ties(values), correct) == pytest.approx(exact, abs=1e-12)

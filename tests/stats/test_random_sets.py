"""The spread between random sets as the noise that a chosen set is seen in."""

import math

import numpy as np
import pytest
from scipy import stats

from vrp.stats.estimate import Estimate
from vrp.stats.random_sets import ONE_SET, SetSpread, place_among

EFFECTS = (-1.0, 0.5, 2.0, -0.5, 1.0)


def test_one_more_set_is_a_sample_of_one_against_the_others():
    """Student's two-sample test, one of whose samples has a single value, is the reference."""
    spread = SetSpread.of_one(EFFECTS)
    value = -6.0 - np.mean(EFFECTS)
    expected = stats.ttest_ind([-6.0], EFFECTS)
    assert spread.df == expected.df
    assert spread.p_against_none(value, 0.0) == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    found = spread.widened(Estimate(value, value, value, math.nan, 10, 10, "m"))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_mean_of_the_sets_is_a_sample_mean():
    spread = SetSpread.of_mean(EFFECTS)
    expected = stats.ttest_1samp(EFFECTS, 0.0)
    assert spread.p_against_none(np.mean(EFFECTS), 0.0) == pytest.approx(expected.pvalue)
    assert spread.se == pytest.approx(stats.sem(EFFECTS))


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    spread = SetSpread.of_mean(EFFECTS)
    mean = float(np.mean(EFFECTS))
    above = stats.ttest_1samp(EFFECTS, -2.0, alternative="greater").pvalue
    below = stats.ttest_1samp(EFFECTS, 2.0, alternative="less").pvalue
    assert spread.p_equivalence(mean, 0.0, margin=2.0) == pytest.approx(max(above, below))


def test_neither_interval_nor_p_gets_smaller():
    spread = SetSpread.of_one((0.0, 0.001))
    estimate = Estimate(-3.0, -5.0, -1.0, 0.01, 10, 10, "m")
    assert spread.widened(estimate) == estimate
    assert spread.p_against_none(-3.0, 0.01) == 0.01
    assert spread.p_equivalence(0.0, 0.04, margin=2.0) == 0.04
    assert spread.wider_of(1.0, 50.0) == (1.0, 50.0)
    wide = SetSpread.of_one(EFFECTS)
    assert wide.wider_of(1.0, 50.0) == tuple(wide)


def test_one_set_tells_nothing():
    spread = SetSpread.of_one([1.0])
    found = spread.widened(Estimate(-3.0, -5.0, -1.0, 0.01, 10, 10, "m"))
    assert math.isnan(found.low)
    assert found.note == ONE_SET
    assert math.isnan(spread.p_against_none(-3.0, 0.01))
    assert math.isnan(spread.p_equivalence(0.0, 0.01, margin=2.0))


def test_equal_sets_leave_what_images_say():
    spread = SetSpread.of_one([1.0, 1.0, 1.0])
    assert spread.p_against_none(-3.0, 0.02) == 0.02
    assert spread.p_equivalence(-3.0, 0.02, margin=2.0) == 0.02


def test_the_place_among_sets():
    assert place_among(-2.0, EFFECTS) == 1
    assert place_among(-1.0, EFFECTS) == 2
    assert place_among(5.0, EFFECTS) == 6

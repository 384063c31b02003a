import math

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.calibration import calibration


def test_hand_worked():
    # Bin (0, .5]: confidences .2 .4 → mean .3, accuracy .5; bin (.5, 1]: .9 .7 → .8, accuracy 1.
    result = calibration([0.2, 0.4, 0.9, 0.7], [0, 1, 1, 1], n_bins=2)
    assert result.ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    low, high = result.bins
    assert (low.n, low.confidence, low.accuracy) == pytest.approx((2, 0.3, 0.5))
    assert (high.n, high.confidence, high.accuracy) == pytest.approx((2, 0.8, 1.0))


def test_edges_and_empty_bins():
    result = calibration([0.0, 0.5, 1.0], [0, 1, 1], n_bins=4)
    assert [b.n for b in result.bins] == [1, 1, 0, 1]
    assert math.isnan(result.bins[2].accuracy)
    assert result.ece == pytest.approx(0.5 / 3)


def test_calibrated_confidence_has_small_error_and_inflated_has_not():
    random = np.random.default_rng(0)
    confidence = random.random(20_000)
    correct = random.random(20_000) < confidence
    assert calibration(confidence, correct).ece < 0.02
    # Confidence √p where the truth is p: the gap is E[√p − p] = 2/3 − 1/2.
    inflated = calibration(np.sqrt(confidence), correct)
    assert inflated.ece == pytest.approx(1 / 6, abs=0.02)


def test_bins_of_equal_mass():
    random = np.random.default_rng(1)
    confidence = random.beta(8, 1, 1000)
    bins = calibration(confidence, random.random(1000) < confidence, binning="mass").bins
    assert {b.n for b in bins} == {100}
    one = calibration(np.full(10, 0.7), [1] * 5 + [0] * 5, binning="mass")
    assert one.ece == pytest.approx(0.2)
    assert len(one.bins) == 1


def test_missing_and_bad_confidence():
    assert calibration([np.nan, 0.5], [1, 1]).note == "1 of 2 items dropped: signal missing"
    assert math.isnan(calibration([np.nan], [1]).ece)
    with pytest.raises(InputError):
        calibration([1.2], [1])

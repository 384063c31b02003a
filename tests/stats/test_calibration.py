import math

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.calibration import calibration


def test_hand_worked():
    # Bin (.2, .3]: confidences .22 .28 → mean .25, accuracy .5; bin (.8, .9]: .82 .88 → .85, 1.
    result = calibration([0.22, 0.28, 0.82, 0.88], [0, 1, 1, 1])
    assert result.ece == pytest.approx(0.5 * 0.25 + 0.5 * 0.15)
    low, high = result.bins[2], result.bins[8]
    assert (low.n, low.confidence, low.accuracy) == pytest.approx((2, 0.25, 0.5))
    assert (high.n, high.confidence, high.accuracy) == pytest.approx((2, 0.85, 1.0))


def test_edges_and_empty_bins():
    result = calibration([0.0, 0.5, 1.0], [0, 1, 1])
    assert [b.n for b in result.bins] == [1, 0, 0, 0, 1, 0, 0, 0, 0, 1]
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


def test_missing_and_bad_confidence():
    assert calibration([np.nan, 0.5], [1, 1]).note == "1 of 2 items dropped: signal missing"
    assert math.isnan(calibration([np.nan], [1]).ece)
    with pytest.raises(InputError):
        calibration([1.2], [1])

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.risk_coverage import risk_coverage


def test_hand_worked():
    # In order of confidence: right, wrong, right, wrong → risks 0, 1/2, 1/3, 1/2.
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_missing_confidence_comes_last():
    # The wrong items have no confidence: they must not spoil the head of the curve.
    curve = risk_coverage([np.nan, 0.1, np.nan, 0.2], [0, 1, 0, 1])
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    worst = risk_coverage([-np.inf, np.nan], [1, 0])
    assert worst.risk.tolist() == [0, 0.5]


def test_ties_count_in_every_order_at_once():
    confidence = np.array([1, 1, 1, 0, 0.0])
    correct = np.array([1, 0, 1, 0, 1])
    random = np.random.default_rng(0)
    curves = []
    for _ in range(4000):
        shuffle = random.permutation(5)
        order = shuffle[np.argsort(-confidence[shuffle], kind="stable")]
        curves.append(np.cumsum(1 - correct[order]) / np.arange(1, 6))
    assert risk_coverage(confidence, correct).risk == pytest.approx(np.mean(curves, 0), abs=0.02)
    rows = random.permutation(5)
    again = risk_coverage(confidence[rows], correct[rows]).risk
    assert again == pytest.approx(risk_coverage(confidence, correct).risk)


def test_constant_confidence_has_the_base_rate_everywhere():
    curve = risk_coverage(np.zeros(10), [1] * 7 + [0] * 3)
    assert curve.risk == pytest.approx(np.full(10, 0.3))
    assert curve.coverage[[0, -1]].tolist() == [0.1, 1.0]


def test_better_order_lower_area():
    random = np.random.default_rng(1)
    correct = random.integers(0, 2, 500)
    good = risk_coverage(correct + 0.5 * random.normal(size=500), correct)
    useless = risk_coverage(random.normal(size=500), correct)
    assert risk_coverage(correct, correct).aurc <= good.aurc < useless.aurc


def test_bad_input_is_refused():
    with pytest.raises(InputError):
        risk_coverage([], [])
    with pytest.raises(InputError):
        risk_coverage([0.5], [1, 0])

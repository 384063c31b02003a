import math

import numpy as np
import pytest

from vrp.stats.bootstrap import resample_groups
from vrp.stats.risk_coverage import risk_coverage
from vrp.stats.selective import Blocks, accuracy_at, rejection_ratio, selective_estimates


def curve(confidence, correct, weights=None):
    blocks = Blocks.of(np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool))
    return blocks.curve(np.ones((len(correct), 1)) if weights is None else weights)


def test_accuracy_at_a_coverage_worked_by_hand():
    # In order: right, right, wrong, right, wrong, right, wrong, wrong, right, wrong.
    correct = [1, 1, 0, 1, 0, 1, 0, 0, 1, 0]
    answered = curve(np.arange(10, 0, -1), correct)
    assert accuracy_at(*answered, 0.5) == pytest.approx([3 / 5])
    assert accuracy_at(*answered, 0.8) == pytest.approx([4 / 8])
    assert accuracy_at(*answered, 0.9) == pytest.approx([5 / 9])
    assert accuracy_at(*answered, 1.0) == pytest.approx([5 / 10])


def test_a_tie_is_answered_in_every_order_at_once():
    # One confident right answer, then three tied ones, of which one is wrong.
    answered = curve([1, 0, 0, 0], [1, 1, 0, 1])
    assert accuracy_at(*answered, 0.5) == pytest.approx([1 - (1 / 3) / 2])


def test_missing_confidences_come_last():
    answered = curve([math.nan, 2, 1, math.nan], [0, 1, 1, 0])
    assert accuracy_at(*answered, 0.5) == [1.0]
    assert rejection_ratio(*answered) == pytest.approx([1.0])


def test_oracle_chance_and_the_worst_order():
    correct = np.array([1] * 70 + [0] * 30, dtype=bool)
    assert rejection_ratio(*curve(correct, correct)) == pytest.approx([1.0])
    assert rejection_ratio(*curve(np.zeros(100), correct)) == pytest.approx([0.0])
    # Wrong ones first: the risk is 1 up to 30%, then 0.3 / c; its mean is 0.3 − 0.3 ln 0.3.
    oracle = 0.3 + 0.7 * math.log(0.7)
    worst = (0.3 - (0.3 - 0.3 * math.log(0.3))) / (0.3 - oracle)
    assert rejection_ratio(*curve(~correct, correct)) == pytest.approx([worst])


def test_undefined_where_all_are_right_or_all_wrong():
    for correct in ([1, 1, 1], [0, 0, 0]):
        assert np.isnan(rejection_ratio(*curve([3, 2, 1], correct))).all()


def test_equals_the_sum_over_items_as_their_number_grows():
    random = np.random.default_rng(1)
    correct = random.random(20_000) < 0.8
    confidence = correct + random.normal(size=20_000)
    rate = 1 - correct.mean()
    oracle = risk_coverage(correct.astype(float), correct).aurc
    by_sum = (rate - risk_coverage(confidence, correct).aurc) / (rate - oracle)
    assert rejection_ratio(*curve(confidence, correct)) == pytest.approx([by_sum], abs=2e-3)


def test_weights_are_repetitions():
    random = np.random.default_rng(2)
    correct, confidence = random.random(40) < 0.6, random.normal(size=40).round(1)
    weights = random.integers(0, 4, size=(40, 1)).astype(float)
    rows = np.repeat(np.arange(40), weights[:, 0].astype(int))
    weighted, repeated = curve(confidence, correct, weights), curve(confidence[rows], correct[rows])
    assert rejection_ratio(*weighted) == pytest.approx(rejection_ratio(*repeated))
    for share in (0.5, 0.8, 0.9):
        assert accuracy_at(*weighted, share) == pytest.approx(accuracy_at(*repeated, share))


def estimates(confidence, correct):
    groups = np.arange(len(correct))
    resamples = resample_groups(groups, seed="s", n_boot=200)
    return selective_estimates(
        confidence, correct, groups, resamples=resamples, n_images=len(correct)
    )


def test_intervals_hold_the_value_and_no_interval_is_a_point():
    random = np.random.default_rng(3)
    correct = random.random(300) < 0.85
    found = estimates(correct + random.normal(size=300), correct)
    assert list(found) == ["prr", "accuracy_at_50", "accuracy_at_80", "accuracy_at_90"]
    for estimate in found.values():
        assert estimate.low < estimate.value < estimate.high
    perfect = estimates(correct.astype(float), correct)["accuracy_at_50"]
    assert perfect.value == 1.0
    assert 0.95 < perfect.low < 1.0
    assert perfect.method == "korn-graubard"


def test_too_few_wrong_answers_have_no_ratio():
    correct = np.array([1] * 60 + [0] * 5, dtype=bool)
    found = estimates(np.arange(65.0), correct)
    assert math.isnan(found["prr"].value)
    assert "too few wrong answers: 5" in found["prr"].note
    assert math.isfinite(found["accuracy_at_80"].value)


def test_no_confidence_at_all_is_no_estimate():
    assert estimates(np.full(5, math.nan), np.array([1, 0, 1, 1, 0], dtype=bool)) == {}

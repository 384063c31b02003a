import math

import numpy as np
import pytest

from vrp.stats.clusters import numbered
from vrp.stats.proportion import share_estimate
from vrp.stats.risk_coverage import risk_coverage
from vrp.stats.selective import (
    accuracies_within,
    accuracy_at,
    rejection_estimate,
    rejection_ratio,
    selective_estimates,
)


def at(confidence, correct, coverage, groups=None):
    codes, n_images = numbered(np.arange(len(correct)) if groups is None else groups)
    return accuracy_at(confidence, correct, codes, coverage, n_images=n_images)


def ratio(confidence, correct, groups=None):
    codes, n_images = numbered(np.arange(len(correct)) if groups is None else groups)
    return rejection_ratio(confidence, correct, codes, n_images=n_images)


def test_accuracy_at_a_coverage_worked_by_hand():
    # In order: right, right, wrong, right, wrong, right, wrong, wrong, right, wrong.
    correct, confidence = [1, 1, 0, 1, 0, 1, 0, 0, 1, 0], np.arange(10, 0, -1)
    for coverage, expected in ((0.5, 3 / 5), (0.8, 4 / 8), (0.9, 5 / 9), (1.0, 5 / 10)):
        assert at(confidence, correct, coverage).value == pytest.approx(expected)


def test_a_tie_is_answered_in_every_order_at_once():
    # One confident right answer, then three tied ones, of which one is wrong.
    assert at([1, 0, 0, 0], [1, 1, 0, 1], 0.5).value == pytest.approx(1 - (1 / 3) / 2)


def test_missing_confidences_come_last():
    assert at([math.nan, 2, 1, math.nan], [0, 1, 1, 0], 0.5).value == 1.0
    confidence = np.append(np.arange(30.0), np.full(30, math.nan))
    assert ratio(confidence, [1] * 30 + [0] * 30).value == pytest.approx(1.0)


def test_oracle_chance_and_the_worst_order():
    correct = np.array([1] * 70 + [0] * 30, dtype=bool)
    assert ratio(correct, correct).value == pytest.approx(1.0)
    assert ratio(np.zeros(100), correct).value == pytest.approx(0.0)
    # Wrong ones first: the risk is 1 up to 30%, then 0.3 / c; its mean is 0.3 − 0.3 ln 0.3.
    oracle = 0.3 + 0.7 * math.log(0.7)
    worst = (0.3 - (0.3 - 0.3 * math.log(0.3))) / (0.3 - oracle)
    assert ratio(~correct, correct).value == pytest.approx(worst)


def test_equals_the_sum_over_items_as_their_number_grows():
    random = np.random.default_rng(1)
    correct = random.random(20_000) < 0.8
    confidence = correct + random.normal(size=20_000)
    rate = 1 - correct.mean()
    oracle = risk_coverage(correct.astype(float), correct).aurc
    by_sum = (rate - risk_coverage(confidence, correct).aurc) / (rate - oracle)
    assert ratio(confidence, correct).value == pytest.approx(by_sum, abs=2e-3)


@pytest.mark.parametrize("levels", [None, 6])
def test_influence_is_what_an_item_more_or_less_changes(levels):
    """Infinitesimal jackknife: the weight of one image's items grows by a little."""
    random = np.random.default_rng(2)
    correct = random.random(60) < 0.7
    confidence = (correct + random.normal(size=60)).astype(float)
    if levels:
        confidence = np.round(confidence * levels / 4)
    groups = np.repeat(np.arange(30), 2)
    copies = 2000
    found = ratio(confidence, correct, groups)
    for image in range(0, 30, 7):
        rows = np.append(np.tile(np.arange(60), copies), np.flatnonzero(groups == image))
        change = ratio(confidence[rows], correct[rows]).value - found.value
        # Two items more among 60 copies each: their share grows by 1 / (60 · copies) apiece.
        slope = change * (copies + 2 / 60)
        assert found.components["items"].influence[image] == pytest.approx(slope, abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "wrong_rate"), [(300, 0.3), (1000, 0.1), (1000, 0.05)])
@pytest.mark.parametrize("levels", [None, 10])
def test_intervals_cover(n, wrong_rate, levels):
    """Of 400 studies with two questions an image, about 95% of the intervals hold the truth."""

    def draw(random, size):
        images = np.repeat(random.normal(size=size // 2), 2)
        correct = images * 0.5 + random.normal(size=size) > -1.118 * _quantile(wrong_rate)
        confidence = correct * 1.2 + random.normal(size=size) + 0.3 * images
        return (np.round(confidence * levels / 6) if levels else confidence), correct

    truth_confidence, truth_correct = draw(np.random.default_rng(0), 400_000)
    truths = {
        "prr": ratio(truth_confidence, truth_correct).value,
        "accuracy_at_80": at(truth_confidence, truth_correct, 0.8).value,
    }
    held = dict.fromkeys(truths, 0)
    n_studies = 400
    for seed in range(n_studies):
        confidence, correct = draw(np.random.default_rng(seed + 1), n)
        codes, n_images = numbered(np.repeat(np.arange(n // 2), 2))
        found = selective_estimates(confidence, correct, codes, n_images=n_images)
        for name, truth in truths.items():
            held[name] += found[name][1].low <= truth <= found[name][1].high
    for name, count in held.items():
        assert 0.92 <= count / n_studies <= 0.99, (name, count / n_studies)


def _quantile(wrong_rate):
    return {0.3: 0.524, 0.1: 1.282, 0.05: 1.645}[wrong_rate]


def test_no_interval_is_a_point():
    correct = np.array([1] * 270 + [0] * 30, dtype=bool)
    perfect = share_estimate(at(np.arange(300, 0, -1), correct, 0.5))
    assert perfect.value == 1.0
    assert perfect.low == pytest.approx(0.025 ** (1 / 150), abs=1e-6)  # 150 of 150


def test_too_few_wrong_answers_have_no_ratio():
    found = ratio(np.arange(65.0), np.array([1] * 60 + [0] * 5, dtype=bool))
    assert not found.defined
    assert "too few wrong answers: 5" in rejection_estimate(found, wrong_rate=5 / 65).note


def test_no_confidence_at_all_is_no_estimate():
    codes, n_images = numbered(np.arange(5))
    nothing = np.full(5, math.nan)
    assert not selective_estimates(nothing, np.ones(5, bool), codes, n_images=n_images)


def within(confidence, correct, strata, coverages, groups=None):
    codes, n_images = numbered(np.arange(len(correct)) if groups is None else groups)
    return accuracies_within(confidence, correct, codes, strata, coverages, n_images=n_images)


def test_accuracy_within_strata_worked_by_hand():
    # Easy: all right. Hard, in order: right, wrong, wrong, wrong. Half of each is answered: of the
    # easy two of two are right, of the hard one of two; they weigh a third and two thirds.
    strata = ["easy"] * 2 + ["hard"] * 4
    correct, confidence = [1, 1, 1, 0, 0, 0], [9, 8, 4, 3, 2, 1]
    found = within(confidence, correct, strata, (0.5, 1.0))
    assert [one.value for one in found.accuracies] == pytest.approx([1 / 3 + 2 / 3 / 2, 1 / 2])
    assert [one.n for one in found.accuracies] == [3, 6]
    assert [one.n_groups for one in found.accuracies] == [3, 6]
    # Of the hard: risks 0, 1/2, 2/3, 3/4.
    assert found.aurc == pytest.approx(2 / 3 * (1 / 2 + 2 / 3 + 3 / 4) / 4)


def test_one_stratum_is_no_stratum():
    rng = np.random.default_rng(0)
    confidence, correct = rng.normal(size=90), rng.random(90) < 0.7
    groups = rng.integers(0, 30, 90)
    (one,) = within(confidence, correct, ["all"] * 90, (0.6,), groups).accuracies
    whole = at(confidence, correct, 0.6, groups)
    assert (one.value, one.se, one.n, one.n_groups) == pytest.approx(
        (whole.value, whole.se, whole.n, whole.n_groups)
    )


def test_knowing_which_stratum_is_easy_gains_nothing():
    rng = np.random.default_rng(1)
    strata = np.repeat(["easy", "hard"], 500)
    correct = rng.random(1000) < np.where(strata == "easy", 0.95, 0.4)
    confidence = (strata == "easy").astype(float)
    found = within(confidence, correct, strata, (0.3, 1.0))
    assert found.accuracies[0].value == pytest.approx(found.accuracies[1].value)
    assert at(confidence, correct, 0.3).value > found.accuracies[0].value + 0.2


def test_the_standard_error_within_strata_is_the_bootstraps():
    rng = np.random.default_rng(2)
    n_images = 300
    groups = np.repeat(np.arange(n_images), 3)
    strata = np.tile(["a", "b", "b"], n_images)
    knows = np.repeat(rng.normal(size=n_images), 3) + rng.normal(size=900)
    correct = rng.random(900) < 1 / (1 + np.exp(-knows - (strata == "a")))
    confidence = knows + rng.normal(size=900)
    (found,) = within(confidence, correct, strata, (0.5,), groups).accuracies
    draws = []
    for _ in range(400):
        rows = (3 * rng.integers(0, n_images, n_images)[:, None] + np.arange(3)).ravel()
        (one,) = within(confidence[rows], correct[rows], strata[rows], (0.5,)).accuracies
        draws.append(one.value)
    assert found.se == pytest.approx(np.std(draws), rel=0.12)

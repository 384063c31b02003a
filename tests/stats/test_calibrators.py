import json
import math

import numpy as np
import pytest
from sklearn.calibration import _SigmoidCalibration

from vrp.errors import InputError
from vrp.stats.calibration import calibration
from vrp.stats.calibrators import (
    Isotonic,
    Platt,
    calibrator_from,
    fit_calibrator,
    fit_isotonic,
    fit_platt,
)


def test_platt_of_two_scores_is_the_share_of_smoothed_labels():
    """With one score for each of two cells the sigmoid fits both shares exactly."""
    scores, correct = [0, 0, 0, 0, 2, 2, 2, 2], [0, 0, 0, 1, 0, 1, 1, 1]
    # Smoothed labels: right (4 + 1)/(4 + 2) = 5/6, wrong 1/(4 + 2) = 1/6.
    expected = [(3 / 6 + 5 / 6) / 4, (1 / 6 + 15 / 6) / 4]
    assert fit_platt(scores, correct).probability([0, 2]) == pytest.approx(expected, abs=1e-6)


def test_platt_is_scikit_learns():
    random = np.random.default_rng(0)
    scores = random.normal(50, 20, 500)
    correct = random.random(500) < 1 / (1 + np.exp(-(scores - 40) / 10))
    theirs = _SigmoidCalibration().fit(scores, correct)
    found = fit_platt(scores, correct)
    assert found.probability(scores) == pytest.approx(theirs.predict(scores), abs=1e-4)


def test_platt_of_separated_and_of_falling_scores():
    apart = fit_platt([0.0, 1.0], [0, 1])
    assert math.isfinite(apart.slope)
    falling = fit_platt([0.0, 1.0, 2.0, 3.0], [1, 1, 0, 0])
    assert falling == Platt(0.0, pytest.approx(0.0))
    assert falling.probability(7.0) == pytest.approx(0.5)
    assert fit_platt([1.0, 1.0, 1.0], [1, 1, 0]).slope == 0.0


def test_isotonic_by_hand():
    # Pool adjacent violators: 0 | 1, 0 → 1/2 | 1; the ends stay 1/6 away from 0 and 1.
    found = fit_isotonic([1, 2, 3, 4], [0, 1, 0, 1])
    assert found.probability([0, 1, 2, 2.5, 3, 4, 9]) == pytest.approx(
        [1 / 6, 1 / 6, 0.5, 0.5, 0.5, 5 / 6, 5 / 6]
    )
    assert np.isnan(found.probability(np.nan))


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_calibrators_are_plain_numbers_and_do_not_decrease(fit):
    random = np.random.default_rng(1)
    scores, correct = random.random(300), random.random(300) < 0.6
    found = fit(scores, correct)
    again = calibrator_from(json.loads(json.dumps(found.as_json())))
    grid = np.linspace(-1, 2, 500)
    assert again == found
    assert (np.diff(again.probability(grid)) >= 0).all()


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "beta"}, {"kind": "platt", "slope": 1.0}, {"kind": "platt", "slope": "x"},
        {"kind": "platt", "slope": -1.0, "intercept": 0.0},
        {"kind": "platt", "slope": 1.0, "intercept": math.inf},
        {"kind": "isotonic", "scores": [0, 1], "probabilities": [0.5]},
        {"kind": "isotonic", "scores": [], "probabilities": []},
        {"kind": "isotonic", "scores": [1, 0], "probabilities": [0.1, 0.2]},
        {"kind": "isotonic", "scores": [0, 1], "probabilities": [0.2, 0.1]},
        {"kind": "isotonic", "scores": [0, 1], "probabilities": [0.2, 1.1]},
        {},
    ],
)  # fmt: skip
def test_other_documents_are_refused(document):
    with pytest.raises(InputError, match="calibrator"):
        calibrator_from(document)


def curved(n, *, seed=0):
    """Scores whose chance of being right is a step, which no sigmoid follows."""
    random = np.random.default_rng(seed)
    scores = random.random(n)
    return scores, random.random(n) < np.where(scores < 0.9, 0.5, 0.99), np.arange(n)


def test_isotonic_is_chosen_where_a_sigmoid_does_not_fit():
    scores, correct, groups = curved(4000)
    found = fit_calibrator(scores, correct, groups, seed="a")
    assert isinstance(found.calibrator, Isotonic)
    assert found.brier["isotonic"] < found.brier["platt"]
    assert found.reason == "isotonic regression is better by a standard error"
    assert calibration(found.probabilities, correct).ece < 0.03


def test_platt_is_chosen_where_it_fits_and_with_few_images():
    random = np.random.default_rng(2)
    scores = random.normal(size=3000)
    correct = random.random(3000) < 1 / (1 + np.exp(-2 * scores))
    found = fit_calibrator(scores, correct, np.arange(3000), seed="a")
    assert isinstance(found.calibrator, Platt)
    assert found.calibrator.slope == pytest.approx(2, abs=0.3)
    assert found.reason == "isotonic regression is not better by a standard error"
    few = fit_calibrator(*curved(900), seed="a")
    assert isinstance(few.calibrator, Platt)
    assert list(few.brier) == ["platt", "platt of log-odds"]
    assert few.reason == "isotonic regression is not tried with fewer than 1,000 images"


def test_probabilities_that_need_no_map_get_the_identity():
    """The sigmoid of log-odds with slope 1 and intercept 0 leaves a probability as it is."""
    random = np.random.default_rng(5)
    scores = random.random(5000)
    correct = random.random(5000) < scores
    found = fit_platt(scores, correct, log_odds=True)
    assert found == Platt(pytest.approx(1, abs=0.1), pytest.approx(0, abs=0.1), log_odds=True)
    assert found.probability(0.3) == pytest.approx(0.3, abs=0.02)
    assert 0 < found.probability(0.0) < found.probability(1.0) < 1
    chosen = fit_calibrator(scores[:900], correct[:900], np.arange(900), seed="a").calibrator
    assert chosen.log_odds
    again = calibrator_from(json.loads(json.dumps(found.as_json())))
    assert again == found


def test_scores_that_are_no_probabilities_have_no_log_odds():
    random = np.random.default_rng(6)
    scores = 3 * random.random(500)
    found = fit_calibrator(scores, random.random(500) < 0.5, np.arange(500), seed="a")
    assert list(found.brier) == ["platt"]


def test_probabilities_come_from_other_images():
    """A map of one image's own label would say what it is; pure noise stays near the base rate."""
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(1200), 3)
    correct = np.repeat(random.random(1200) < 0.5, 3)
    scores = np.repeat(random.random(1200), 3)  # the same for all items of an image
    found = fit_calibrator(scores, correct, groups, seed="a")
    assert np.mean((found.probabilities - correct) ** 2) == pytest.approx(0.25, abs=0.01)


def test_order_does_not_matter_and_missing_scores_stay_missing():
    scores, correct, groups = curved(1500)
    scores[:7] = np.nan
    order = np.random.default_rng(4).permutation(1500)
    found = fit_calibrator(scores, correct, groups, seed="a")
    again = fit_calibrator(scores[order], correct[order], groups[order], seed="a")
    assert again.probabilities == pytest.approx(found.probabilities[order], nan_ok=True)
    assert np.isnan(found.probabilities).sum() == 7


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="at least 5 images"):
        fit_calibrator([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], ["a", "b", "c", "d"], seed="a")
    with pytest.raises(InputError, match="each with a score"):
        fit_platt([np.nan], [1])


def test_labels_of_one_kind_have_a_probability_short_of_one():
    # Two right items: smoothed label (2 + 1)/(2 + 2).
    assert fit_platt([1.0, 1.0], [1, 1]).probability(1.0) == pytest.approx(0.75)
    assert fit_isotonic([1.0, 2.0], [1, 1]).probability(1.0) == pytest.approx(0.75)

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis as scipy_distance
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from vrp.probing.folds import ProbeItems, plan_folds
from vrp.probing.mahalanobis import fit_mahalanobis, mahalanobis


@pytest.mark.parametrize(("n", "d"), [(200, 8), (30, 80), (40, 40)])
def test_equals_scikit_learns_covariance_and_scipys_distance(n, d):
    random = np.random.default_rng(0)
    train = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 3
    test = random.normal(size=(5, d)) * 4
    scaler = StandardScaler().fit(train)
    covariance = LedoitWolf(assume_centered=True).fit(scaler.transform(train))
    expected = [
        scipy_distance(row, np.zeros(d), covariance.precision_) for row in scaler.transform(test)
    ]
    assert mahalanobis(train, test) == pytest.approx(expected, rel=1e-8)


def test_unusual_items_are_far_from_the_training_items_of_their_fold():
    random = np.random.default_rng(1)
    states = random.normal(size=(200, 20))
    states[::20] += 6
    labels = np.arange(200) % 3 > 0
    items = ProbeItems.of(np.arange(200), labels, np.arange(200), np.zeros(200, int))
    plan = plan_folds(items, seed="s")
    found = fit_mahalanobis(states, items, plan)
    assert not found.is_probability
    assert found.scores[::20].max() < np.quantile(found.scores, 0.25)
    # No label enters.
    other = fit_mahalanobis(states, items.with_labels(~labels), plan)
    assert (found.scores == other.scores).all()

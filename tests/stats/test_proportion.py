import math

import numpy as np
import pytest
from scipy.stats import beta, binomtest, t

from vrp.errors import InputError
from vrp.stats.proportion import clustered_share, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 7), (454, 500), (1, 1)])
def test_equals_scipy(k, n):
    ours = wilson(k, n)
    theirs = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert ours.value == k / n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_nothing_and_nonsense():
    assert math.isnan(wilson(0, 0).value)
    assert wilson(0, 0).note == "no items"
    with pytest.raises(InputError):
        wilson(4, 3)


def share(hits, groups=None):
    codes = np.arange(len(hits)) if groups is None else np.asarray(groups)
    return clustered_share(np.asarray(hits, bool), codes, n_images=int(codes.max()) + 1)


def test_all_and_none_are_no_points():
    for hits, n_right in ((np.ones(90), 90), (np.zeros(90), 0)):
        ours, theirs = share(hits), binomtest(n_right, 90).proportion_ci(method="exact")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    # Thirty images, not ninety items.
    ours = share(np.ones(90), np.arange(90) // 3)
    assert ours.low == pytest.approx(binomtest(30, 30).proportion_ci(method="exact").low)


def test_clusters_count_as_korn_and_graubard_count_them():
    # Forty images of five equal items: the variance of forty items, so 39 effective ones.
    hits = np.repeat(np.arange(40) < 30, 5)
    ours = share(hits, np.arange(200) // 5)
    n = 39 * (t.ppf(0.975, 199) / t.ppf(0.975, 39)) ** 2
    assert ours.value == 0.75
    assert ours.low == pytest.approx(beta.ppf(0.025, 0.75 * n, 0.25 * n + 1))
    assert ours.high == pytest.approx(beta.ppf(0.975, 0.75 * n + 1, 0.25 * n))

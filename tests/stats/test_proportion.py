import math

import pytest
from scipy.stats import binomtest

from vrp.errors import InputError
from vrp.stats.proportion import wilson


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

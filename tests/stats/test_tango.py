"""Tango's score interval against likelihoods maximised by a general optimiser, and known cases."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from vrp.stats.tango import score_equivalence_p, score_interval, score_statistic


def by_likelihood(n_gained, n_lost, n, difference):
    """The statistic with the variance of the shares that maximise the trinomial likelihood."""

    def cost(lost):
        gained = lost + difference
        rest = 1 - lost - gained
        if min(gained, lost, rest) <= 0:
            return math.inf
        return -(
            n_gained * math.log(gained) + n_lost * math.log(lost)
            + (n - n_gained - n_lost) * math.log(rest)
        )  # fmt: skip

    low, high = max(0.0, -difference), (1 - difference) / 2
    lost = optimize.minimize_scalar(cost, bounds=(low, high), method="bounded",
                                    options={"xatol": 1e-12}).x  # fmt: skip
    variance = n * (2 * lost + difference - difference**2)
    return (n_gained - n_lost - n * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("n_gained", "n_lost", "n"), [(12, 2, 50), (1, 9, 400), (30, 41, 120)])
@pytest.mark.parametrize("difference", [-0.3, -0.04, 0.01, 0.25])
def test_the_statistic_uses_the_likeliest_shares(n_gained, n_lost, n, difference):
    found = score_statistic(n_gained / n, n_lost / n, n, difference)
    assert found == pytest.approx(by_likelihood(n_gained, n_lost, n, difference), rel=1e-4)


def test_against_no_difference_it_is_mcnemars():
    assert score_statistic(12 / 50, 2 / 50, 50, 0.0) == pytest.approx((12 - 2) / math.sqrt(14))


def test_the_ends_of_the_interval_are_just_not_rejected():
    low, high = score_interval(0.1, 0.02, 150, df=40)
    bound = stats.t.ppf(0.975, 40)
    assert score_statistic(0.1, 0.02, 150, low) == pytest.approx(bound)
    assert score_statistic(0.1, 0.02, 150, high) == pytest.approx(-bound)
    assert low < 0.08 < high


def test_with_many_changes_it_is_walds_interval():
    low, high = score_interval(0.2, 0.1, 100_000)
    half = 1.959964 * math.sqrt((0.3 - 0.01) / 100_000)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-5)


@pytest.mark.parametrize(("gaining", "losing"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_the_ends_of_the_scale(gaining, losing):
    low, high = score_interval(gaining, losing, 40)
    assert -1 <= low < high <= 1
    assert low <= gaining - losing <= high
    assert 0 < score_equivalence_p(gaining, losing, 40, margin=0.02) <= 1


def test_turned_round_it_is_its_mirror_image():
    low, high = score_interval(0.07, 0.01, 90)
    assert score_interval(0.01, 0.07, 90) == pytest.approx((-high, -low))
    assert np.isclose(
        score_equivalence_p(0.07, 0.01, 90, margin=0.1),
        score_equivalence_p(0.01, 0.07, 90, margin=0.1),
    )

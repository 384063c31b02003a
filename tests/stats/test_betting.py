"""Tests by betting: capitals worked by hand, and how often a true hypothesis is rejected."""

import math

import numpy as np
import pytest
from scipy import stats

from vrp.stats.betting import betting_p


def test_capital_by_hand():
    """Two values between −½ and ½ at level ½, their mean at least 0."""
    # A value seen beforehand has the square ½ · ½. Aim: 2. z = 0, φ(0) / Φ(0) = 2 / √(2π); of two
    # values left the deviation is √(2 / 4).
    first = 2 / math.sqrt(2 * math.pi) / math.sqrt(2 / 4)
    capital = 1 + 0.4 * first
    # Squares 0.25 and 0.16 seen, one value left; the stake that capital / 2 = Φ(z) asks for.
    z = stats.norm.ppf(capital / 2)
    second = stats.norm.pdf(z) / (capital / 2) / math.sqrt((0.25 + 0.16) / 2)
    assert first < 1.9
    assert second < 1.9
    capital *= 1 + 0.3 * second
    found = betting_p([[-0.4], [-0.3]], low=-0.5, high=0.5, level=0.5)
    assert found == pytest.approx([1 / capital])
    # The greatest capital counts: after a loss, that before it.
    found = betting_p([[-0.4], [0.3]], low=-0.5, high=0.5, level=0.5)
    assert found == pytest.approx([1 / (1 + 0.4 * first)])
    assert betting_p([[0.4], [0.3]], low=-0.5, high=0.5, level=0.5) == pytest.approx([1.0])


def test_a_stake_never_loses_all():
    values = np.full((50, 1), -0.01)
    values[25] = 0.99
    found = betting_p(values, low=-0.01, high=0.99, level=0.1)
    # 25 gains of at most 0.01 · 0.95 / 0.99 each.
    assert 1 / (1 + 0.01 * 0.95 / 0.99) ** 25 <= found[0] < 1


def test_values_seen_are_not_bet_on():
    values = np.array([[-0.4], [-0.4], [0.0]])
    assert betting_p(values, low=-0.5, high=0.5, level=0.1, n_seen=2) == pytest.approx([1.0])


def test_hypotheses_are_tested_apart_each_with_its_range():
    random = np.random.default_rng(0)
    values = random.choice([-0.1, 0.9], p=[0.95, 0.05], size=(200, 3))
    together = betting_p(values, low=[-0.1] * 3, high=[0.9] * 3, level=0.1)
    for index in range(3):
        alone = betting_p(values[:, [index]], low=-0.1, high=0.9, level=0.1)
        assert together[index] == pytest.approx(alone[0])


@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5])
def test_a_mean_of_zero_is_rejected_no_more_often_than_the_level(n, mean):
    """Two-valued, the most skewed there are."""
    random = np.random.default_rng(n)
    values = (random.random((n, 2000)) < mean) - mean
    for level in (0.05, 0.2):
        share = (betting_p(values, low=-mean, high=1 - mean, level=level) <= level).mean()
        assert share <= level + 3 * math.sqrt(level * (1 - level) / 2000)


def test_power_is_near_that_of_the_normal_test():
    """Values of mean −0.05 and deviation 0.2887: of 300, z is 3 and the power at 0.1 is 0.957."""
    values = np.random.default_rng(0).random((300, 1000)) - 0.55
    rejected = (betting_p(values, low=-0.55, high=0.45, level=0.1) <= 0.1).mean()
    assert stats.norm.cdf(3 - stats.norm.ppf(0.9)) - rejected < 0.07

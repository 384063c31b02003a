"""Thresholds with a guarantee: binomial tails worked by hand, SciPy's, and simulated calibration.

Short simulations; `benchmarks/risk_control.py` makes long ones of the same.
"""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats
from simulated_risk import RISKS, simulated_risk

from vrp.errors import InputError
from vrp.stats.risk_control import (
    control_risk,
    fewest_items,
    most_wrong,
    one_item_per_group,
    risk_bound,
)


def test_fewest_items_by_hand():
    # 0.95^44 = 0.1047, 0.95^45 = 0.0994; 0.9^28 = 0.0523, 0.9^29 = 0.0471; 0.5² = 0.25.
    assert fewest_items(0.05, 0.1) == 45
    assert fewest_items(0.1, 0.05) == 29
    assert fewest_items(0.5, 0.25) == 2


@pytest.mark.parametrize(("n_wrong", "n", "delta"), [(0, 45, 0.1), (3, 80, 0.05), (7, 7, 0.1)])
def test_bound_is_scipys_one_sided_clopper_pearson(n_wrong, n, delta):
    test = stats.binomtest(n_wrong, n, alternative="less")
    expected = test.proportion_ci(1 - delta, method="exact").high
    assert risk_bound(n_wrong, n, delta) == pytest.approx(expected)


def test_most_wrong_by_hand():
    # B(10, 0.5): P(X ≤ 2) = 56/1024 = 0.0547, P(X ≤ 1) = 11/1024 = 0.0107. B(2, 0.5): P(0) = 0.25.
    assert most_wrong([10, 10, 2], 0.5, 0.06).tolist() == [2, 2, -1]
    assert most_wrong(10, 0.5, 0.05) == 1


def test_most_wrong_is_where_scipys_exact_test_rejects():
    for n in range(1, 200):
        few = [
            w for w in range(n + 1) if stats.binomtest(w, n, 0.1, alternative="less").pvalue <= 0.1
        ]
        assert most_wrong(n, 0.1, 0.1) == (max(few) if few else -1)


def test_all_right_is_accepted_and_counted():
    found = control_risk(np.arange(45.0), np.ones(45), alpha=0.05, delta=0.1)
    assert found.accepted == pytest.approx((0.0, 1.0, 45, 0, 1 - 0.1 ** (1 / 45)))
    assert found.reason == ""
    assert found.accepts([-1.0, 0.0, np.nan]).tolist() == [False, True, False]


def test_too_few_items_accept_nothing():
    found = control_risk(np.arange(44.0), np.ones(44), alpha=0.05, delta=0.1)
    assert found.accepted is None
    assert found.first is None
    assert "at least 45" in found.reason
    assert not found.accepts([1e9]).any()


def test_wrong_answers_among_the_surest_accept_nothing():
    correct = np.ones(1000)
    correct[-100::2] = 0  # half of the surest hundred are wrong
    found = control_risk(np.arange(1000.0), correct, alpha=0.1, delta=0.1)
    assert found.accepted is None
    assert found.first.n == 128  # B(128, 0.1): 8 wrong rule out; B(128, 0.05): 80% have no more
    assert "50 of the 128 surest answers are wrong" in found.reason


def test_threshold_is_the_lowest_that_the_binomial_tail_allows():
    """400 right above 400 wrong: accepted are 400 and as many wrong as the tail allows."""
    scores = np.arange(800.0)
    correct = scores >= 400
    found = control_risk(scores, correct, alpha=0.1, delta=0.1).accepted
    assert stats.binom.cdf(found.n_wrong, found.n, 0.1) <= 0.1
    step = math.ceil((800 - 128) / 99)
    assert stats.binom.cdf(found.n_wrong + step, found.n + step, 0.1) > 0.1
    assert found.threshold == scores[-found.n]


def test_ties_are_accepted_together():
    scores = np.repeat([3.0, 2.0, 1.0], [60, 100, 100])
    correct = np.ones(260)
    correct[160:] = 0
    found = control_risk(scores, correct, alpha=0.05, delta=0.1)
    assert found.accepted[:4] == (2.0, 160 / 260, 160, 0)
    assert found.accepts(scores).sum() == 160


def test_missing_scores_are_never_accepted_and_count_in_the_share():
    scores = np.concatenate([np.arange(100.0), np.full(100, np.nan)])
    found = control_risk(scores, np.ones(200), alpha=0.05, delta=0.1)
    assert (found.n, found.accepted.n, found.accepted.share) == (200, 100, 0.5)


def test_the_order_of_items_does_not_matter():
    random = np.random.default_rng(0)
    scores, correct = random.integers(0, 20, 500) / 20, random.random(500) < 0.9
    order = random.permutation(500)
    assert control_risk(scores, correct, alpha=0.1) == control_risk(
        scores[order], correct[order], alpha=0.1
    )


@pytest.mark.parametrize(("alpha", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 0.5)])
def test_levels_out_of_range(alpha, delta):
    with pytest.raises(InputError, match="out of range"):
        control_risk([1.0], [1], alpha=alpha, delta=delta)


def test_one_item_of_each_group_wherever_it_stands():
    groups = np.repeat([f"image {i}" for i in range(200)], 5)
    ids = np.array([f"{group}/{i % 5}" for i, group in enumerate(groups)])
    chosen = one_item_per_group(ids, groups, seed="a")
    assert len(set(groups[chosen])) == chosen.sum() == 200
    order = np.random.default_rng(1).permutation(1000)
    again = one_item_per_group(ids[order], groups[order], seed="a")
    assert set(ids[order][again]) == set(ids[chosen])
    # Each of five is drawn in a fifth of the groups: B(200, 1/5) lies in 18…64 but once in 10^5.
    counts = np.bincount(np.flatnonzero(chosen) % 5)
    assert ((counts > 18) & (counts < 64)).all()
    other = one_item_per_group(ids, groups, seed="b")
    assert (other != chosen).any()


def test_the_item_drawn_is_that_of_the_smallest_digest():
    ids = ["x", "y", "z"]
    digests = [hashlib.sha256(f"s\x1fg\x1f{i}".encode()).hexdigest() for i in ids]
    chosen = one_item_per_group(ids, ["g"] * 3, seed="s")
    assert chosen.tolist() == [digest == min(digests) for digest in digests]


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_guarantee_in_simulation(risk, alpha, levels):
    """The true risk of what is accepted exceeds alpha in no more than delta of calibrations."""
    found = simulated_risk(risk, n=600, alpha=alpha, delta=0.1, levels=levels, repeats=400)
    # 400 calibrations with a chance of 0.1: more than 57 fail once in a thousand.
    assert found.violations <= 57 / 400

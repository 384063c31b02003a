"""The distribution of the commonest answer's count, against enumeration and simulation."""

from itertools import product

import numpy as np
import pytest

from vrp.signals.exact_consistency import (
    expected_self_consistency,
    largest_count_distribution,
    majority_share,
)


def enumerated(probabilities, k):
    """Every sequence of K answers, one by one."""
    found = np.zeros(k)
    for sequence in product(range(len(probabilities)), repeat=k):
        largest = max(sequence.count(a) for a in set(sequence))
        found[largest - 1] += np.prod([probabilities[a] for a in sequence])
    return found


@pytest.mark.parametrize(
    "probabilities", [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1], [0.25] * 4, [0.6, 0.4, 0.0]]
)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_equals_enumeration(probabilities, k):
    found = largest_count_distribution(probabilities, k)
    np.testing.assert_allclose(found, enumerated(probabilities, k), atol=1e-12)


def test_two_answers_by_hand():
    # Of two samples of a fair coin, both agree half the time.
    np.testing.assert_allclose(largest_count_distribution([0.5, 0.5], 2), [0.5, 0.5])
    expected = expected_self_consistency([0.5, 0.5], 0.0, 2)
    assert expected == pytest.approx((0.75, 0.75))


@pytest.mark.slow
def test_thin_mass_is_the_limit_of_many_rare_answers():
    rare = np.full(20_000, 0.4 / 20_000)
    spread = largest_count_distribution(np.append(0.6, rare), 6)
    thin = largest_count_distribution([0.6], 6, thin=0.4)
    np.testing.assert_allclose(spread, thin, atol=2e-4)


def test_many_samples_stay_finite():
    bounds = expected_self_consistency([0.6, 0.3], 0.1, 300)
    assert bounds.low == pytest.approx(0.6, abs=0.01)
    assert bounds.high == pytest.approx(0.7, abs=0.01)


def test_all_mass_thin_never_repeats():
    np.testing.assert_allclose(largest_count_distribution([], 4, thin=1.0), [1, 0, 0, 0])


def test_equals_simulation():
    probabilities = np.array([0.45, 0.3, 0.15, 0.1])
    counts = np.random.default_rng(0).multinomial(10, probabilities, size=200_000).max(axis=1)
    simulated = np.bincount(counts, minlength=11)[1:] / 200_000
    np.testing.assert_allclose(largest_count_distribution(probabilities, 10), simulated, atol=0.005)
    expected = expected_self_consistency(probabilities, 0.0, 10)
    assert expected.low == expected.high == pytest.approx(counts.mean() / 10, abs=1e-3)


def test_bounds_hold_whatever_the_unknown_answers_are():
    rng = np.random.default_rng(1)
    for _ in range(200):
        truth = rng.dirichlet(np.full(rng.integers(2, 7), 0.7))
        n_known = int(rng.integers(0, len(truth)))
        known, unknown = truth[:n_known], float(truth[n_known:].sum())
        share = majority_share(known, unknown)
        exact = expected_self_consistency(truth, 0.0, 10).low
        bounds = expected_self_consistency(known, unknown, 10)
        assert share.low - 1e-12 <= truth.max() <= share.high + 1e-12
        assert bounds.low - 1e-12 <= exact <= bounds.high + 1e-12
        assert bounds.low < bounds.high


def test_nothing_unknown_leaves_no_interval():
    assert majority_share([0.8, 0.2], 0.0) == (0.8, 0.8)
    bounds = expected_self_consistency([0.8, 0.2], 0.0, 10)
    assert bounds.low == bounds.high


@pytest.mark.parametrize(
    ("probabilities", "unresolved"), [([0.5], 0.4), ([1.2, -0.2], 0.0), ([0.9], 0.2)]
)
def test_what_is_no_distribution_is_refused(probabilities, unresolved):
    with pytest.raises(ValueError, match=r"sum to 1|negative"):
        majority_share(probabilities, unresolved)


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="k=0"):
        largest_count_distribution([1.0], 0)

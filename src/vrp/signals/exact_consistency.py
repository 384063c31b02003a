"""Self-consistency without sampling: what K samples would show, from the answers' distribution.

Where a model's distribution over answers is known up to some mass that was not followed, the
share of the majority has a least and a greatest value; sampled S_SC (arXiv 2606.17389) is a draw
whose expectation lies between them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import comb

# Probabilities are sums of products of float64 softmax values.
_ROUNDING = 1e-9


class Interval(NamedTuple):
    """Bounds from mass whose answers are unknown; no sampling noise."""

    low: float
    """If that mass is spread over answers that never repeat."""
    high: float
    """If all of it is the likeliest answer."""


def majority_share(probabilities: ArrayLike, unresolved: float) -> Interval:
    """Bound the share of the majority answer as K grows without limit.

    Args:
        probabilities: (n,) of the known answers; n may be 0.
        unresolved: mass of unknown answers; all sums to 1.

    Raises ValueError where it does not sum to 1 or a value is negative.
    """
    known = _checked(probabilities, unresolved)
    largest = float(known.max(initial=0.0))
    return Interval(min(largest, 1.0), min(largest + unresolved, 1.0))


def expected_self_consistency(probabilities: ArrayLike, unresolved: float, k: int) -> Interval:
    """Bound the expectation of S_SC, the majority's share among K independent samples.

    The expected largest count of a multinomial is Schur-convex in its probabilities (Rinott
    1973): it is least where unknown mass is spread as thin as can be, greatest where it joins
    the likeliest answer.

    Args:
        probabilities: (n,) of the known answers; n may be 0.
        unresolved: mass of unknown answers; all sums to 1.
        k: samples.

    Raises ValueError as `majority_share`, and for `k` under 1.
    """
    known = _checked(probabilities, unresolved)
    thin = largest_count_distribution(known, k, thin=unresolved)
    gathered = np.append(known, 0.0)
    gathered[int(gathered.argmax())] += unresolved
    counts = np.arange(1, k + 1) / k
    high = thin if unresolved == 0 else largest_count_distribution(gathered, k)
    return Interval(float(thin @ counts), float(high @ counts))


def largest_count_distribution(
    probabilities: ArrayLike, k: int, *, thin: float = 0.0
) -> NDArray[np.float64]:
    """Return (k,) the probability that the commonest of K answers occurs 1, 2, …, K times.

    P(no count above m) = K! [x^K] e^(thin·x) ∏_a Σ_(j≤m) (p_a x)^j / j!, since thin answers occur
    at most once each.

    Args:
        probabilities: (n,) of the answers.
        k: samples.
        thin: mass spread over answers that never repeat; all sums to 1.

    Raises ValueError as `majority_share`, and for `k` under 1.
    """
    known = _checked(probabilities, thin)
    if k < 1:
        raise ValueError(f"at least one sample is needed, got k={k}")
    powers = np.arange(k + 1)
    # Row m − 1 holds, at n, the chance that n samples fall among these answers, none over m times.
    allowed = np.tri(k, k + 1, 1)
    at_most = np.tile(thin**powers, (k, 1))
    for probability in known[known > 0]:
        at_most = _join(at_most, allowed * probability**powers)
    return np.diff(np.clip(at_most[:, k], 0.0, 1.0), prepend=0.0)


def _join(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply exponential generating functions row by row: Σ_j C(n, j) second_j first_(n−j)."""
    width = first.shape[1]
    joined = np.zeros_like(first)
    for j in range(width):
        ways = comb(np.arange(j, width), j)
        joined[:, j:] += ways * second[:, j : j + 1] * first[:, : width - j]
    return joined


def _checked(probabilities: ArrayLike, unresolved: float) -> NDArray[np.float64]:
    known = np.asarray(probabilities, dtype=np.float64)
    if known.ndim != 1 or (known < 0).any() or unresolved < 0:
        raise ValueError("probabilities must be a list of numbers that are not negative")
    total = float(known.sum()) + unresolved
    if not abs(total - 1) <= _ROUNDING * max(1, known.size):
        raise ValueError(f"probabilities and unresolved mass must sum to 1, they sum to {total}")
    return known

"""Score inference for the difference of two proportions of the same items (Tango 1998).

Of n pairs a share is gained and a share is lost. The statistic measures their difference against a
supposed one, with the variance of the likeliest shares that differ by just that. So it has a
variance where nothing changed, and neither interval nor test falls off a cliff as changes grow few.
"""

import math

from scipy import stats
from scipy.optimize import brentq

from vrp.stats.estimate import LEVEL

# From the ends of the scale, where the supposed variance is zero.
_EDGE = 1e-12


def score_statistic(gaining: float, losing: float, n: float, difference: float) -> float:
    """Return (gaining − losing − difference) over its standard error under that difference.

    Args:
        gaining: share of the pairs that are gained.
        losing: share that is lost.
        n: pairs, or their effective number.
        difference: supposed share gained minus share lost, within (−1, 1).
    """
    # The likeliest share lost solves 2 q² + b q + c = 0.
    b = -gaining - losing + (2 - gaining + losing) * difference
    c = -losing * difference * (1 - difference)
    lost = (math.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    variance = max((2 * lost + difference * (1 - difference)) / n, 0.0)
    distance = gaining - losing - difference
    if variance == 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def score_interval(
    gaining: float, losing: float, n: float, *, df: float = math.inf
) -> tuple[float, float]:
    """Return the ends of the 95% interval: all differences that the statistic does not reject.

    Args:
        gaining: share of the pairs that are gained.
        losing: share that is lost.
        n: pairs, or their effective number.
        df: degrees of freedom of Student's t, whose quantile bounds the statistic.
    """
    bound = float(stats.t.ppf((1 + LEVEL) / 2, df))
    value = gaining - losing

    def end(target: float, edge: float) -> float:
        """The difference between the value and an end of the scale that has a statistic."""

        def excess(difference: float) -> float:
            return score_statistic(gaining, losing, n, difference) - target

        if excess(edge) * excess(value) > 0:
            return math.copysign(1.0, edge)
        return float(brentq(excess, *sorted((value, edge)), xtol=1e-12))

    return end(bound, -1 + _EDGE), end(-bound, 1 - _EDGE)


def score_equivalence_p(
    gaining: float, losing: float, n: float, *, margin: float, df: float = math.inf
) -> float:
    """Return the larger p-value of two one-sided tests: that the difference lies beyond ± margin.

    Args:
        gaining: share of the pairs that are gained.
        losing: share that is lost.
        n: pairs, or their effective number.
        margin: of equivalence, a share of the pairs.
        df: degrees of freedom of Student's t.
    """
    above_low = stats.t.sf(score_statistic(gaining, losing, n, -margin), df)
    below_high = stats.t.cdf(score_statistic(gaining, losing, n, margin), df)
    return float(max(above_low, below_high))

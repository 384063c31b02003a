"""Equivalence test (TOST): the only ground on which the study says "near zero" or "resilient".

Two one-sided tests against the bounds (Schuirmann 1987), with standard errors clustered by image
and Student's t with the estimate's degrees of freedom.
"""

import math

from scipy import stats

from vrp.errors import InputError
from vrp.stats.clusters import ClusteredEstimate


def equivalence_p(estimate: ClusteredEstimate, *, low: float, high: float) -> float:
    """The larger p-value of two one-sided tests: below alpha, the truth lies within the bounds.

    NaN where the estimate or its standard error is undefined.

    Raises:
        InputError: bounds out of order.
    """
    if not low < high:
        raise InputError(f"equivalence needs low < high: {low}, {high}")
    if not (estimate.defined and math.isfinite(estimate.se)):
        return math.nan
    return equivalence_test(estimate.value, estimate.test_se, estimate.df, low=low, high=high)


def equivalence_test(value: float, se: float, df: float, *, low: float, high: float) -> float:
    """The larger p-value of the two tests, of an estimate with its standard error.

    Args:
        value: the estimate.
        se: its standard error.
        df: degrees of freedom of Student's t.
        low: lower bound of what counts as equivalent.
        high: upper bound.
    """
    above_low = float(stats.t.sf((value - low) / se, df))
    below_high = float(stats.t.cdf((value - high) / se, df))
    return max(above_low, below_high)

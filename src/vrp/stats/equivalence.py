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
    value, se, df = estimate.value, estimate.se, estimate.df
    if not (math.isfinite(value) and math.isfinite(se)):
        return math.nan
    above_low = float(stats.t.sf((value - low) / se, df))
    below_high = float(stats.t.cdf((value - high) / se, df))
    return max(above_low, below_high)

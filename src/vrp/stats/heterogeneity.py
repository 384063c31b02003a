"""Whether estimates of one quantity differ from each other more than their errors explain."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def interaction_p(values: ArrayLike, standard_errors: ArrayLike) -> float:
    """Cochran's Q test (Cochran 1954) that several estimates have one common truth.

    Estimates over the same items err in the same direction, which makes the test conservative.

    Args:
        values: (k,) estimates.
        standard_errors: (k,); estimates without a positive one are left out.

    Returns:
        The p-value; NaN with fewer than two estimates.
    """
    value = np.asarray(values, dtype=np.float64)
    se = np.asarray(standard_errors, dtype=np.float64)
    used = np.isfinite(value) & (se > 0)
    if used.sum() < 2:
        return math.nan
    weight = 1 / se[used] ** 2
    mean = float(weight @ value[used] / weight.sum())
    q = float(weight @ (value[used] - mean) ** 2)
    return float(stats.chi2.sf(q, used.sum() - 1))

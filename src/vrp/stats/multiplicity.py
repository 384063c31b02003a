"""Many tests in one table."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.errors import InputError


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values (Holm 1979), which control the family-wise error.

    Args:
        p_values: (n_tests,) NaN marks a test not made: it stays NaN and is not counted.

    Returns:
        (n_tests,) adjusted p-values in the order given.

    Raises:
        InputError: a p-value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(p))
    if p.ndim != 1 or ((p[made] < 0) | (p[made] > 1)).any():
        raise InputError("Holm needs a list of p-values between 0 and 1 (NaN: not tested)")
    order = made[np.argsort(p[made], kind="stable")]
    factors = np.arange(made.size, 0, -1)
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted

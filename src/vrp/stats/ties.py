"""Values that differ by less than the rounding of the pass that made them are one value.

Rank statistics see any difference, however small. A value that depends on the image alone is
the same number for all questions about that image, yet a pass that batches them otherwise adds
up in another order, and the last bits would decide which of the two "ranks higher".
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDING: Final = 2e-6
"""Relative difference up to which two single-precision results of one quantity may lie apart."""


def merge_near_ties(values: ArrayLike) -> NDArray[np.float64]:
    """Replace values that lie within rounding of each other by the least of them.

    From below: a value takes in those above it up to `ROUNDING` times its own size, then the
    next one starts anew; so no value moves by more than that, however dense the values are.

    Args:
        values: (n,) in any order; NaN and infinities stay as they are.

    Returns:
        (n,) the same order of values, ties made exact.
    """
    given = np.asarray(values, dtype=np.float64)
    levelled = given.copy()
    finite = np.flatnonzero(np.isfinite(given))
    order = finite[np.argsort(given[finite])]
    ordered = given[order]
    reach = ordered + ROUNDING * np.abs(ordered)
    # For each value, the first one above it that is out of its reach.
    beyond = np.searchsorted(ordered, reach, side="right").tolist()
    starts, start = [], 0
    while start < order.size:
        starts.append(start)
        start = beyond[start]
    widths = np.diff([*starts, order.size])
    levelled[order] = np.repeat(ordered[starts], widths)
    return levelled

"""Values that differ by less than the rounding of the pass that made them are one value.

Rank statistics see any difference, however small. A value that depends on the image alone is
the same number for all questions about that image, yet a pass that batches them otherwise adds
up in another order, and the last bits would decide which of the two "ranks higher".
"""

from bisect import bisect_right
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ROUNDING", "level_ties"]

ROUNDING: Final = 2e-6
"""Relative difference up to which two single-precision results of one quantity may lie apart."""


def level_ties(values: ArrayLike, *, rounding: float = ROUNDING) -> NDArray[np.float64]:
    """Replace values that lie within rounding of each other by the least of them.

    From below: a value takes in those above it up to `rounding` times its own size, then the
    next one starts anew; so no value moves by more than that, however dense the values are.

    Args:
        values: (n,) in any order; NaN and infinities stay as they are.
        rounding: relative width of a tie.

    Returns:
        (n,) the same order of values, ties made exact.
    """
    given = np.asarray(values, dtype=np.float64)
    levelled = given.copy()
    finite = np.flatnonzero(np.isfinite(given))
    order = finite[np.argsort(given[finite], kind="stable")]
    ordered = given[order]
    reach = ordered + rounding * np.abs(ordered)
    close = np.flatnonzero(ordered[1:] <= reach[:-1])
    ascending = ordered.tolist()
    done = 0
    for start in close.tolist():
        if start < done:  # taken in by a value below
            continue
        done = bisect_right(ascending, reach[start], lo=start)
        levelled[order[start:done]] = ordered[start]
    return levelled

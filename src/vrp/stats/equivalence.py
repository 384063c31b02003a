"""Equivalence tests (TOST): the only ground on which the study says "near zero" or "resilient".

Two one-sided tests against the bounds (Schuirmann 1987), with standard errors clustered by image
and Student's t with (images − 1) degrees of freedom.
"""

import math
from typing import NamedTuple

from numpy.typing import ArrayLike
from scipy import stats

from vrp.errors import InputError
from vrp.stats.auroc import clustered_auroc
from vrp.stats.bootstrap import Bootstrapped
from vrp.stats.correlation import clustered_point_biserial
from vrp.stats.estimate import ALPHA, PointSE, join_notes
from vrp.stats.paired import clustered_difference

CORRELATION_BOUND = 0.1
AUROC_BOUND = 0.05
EFFECT_BOUND_PP = 2.0


class Equivalence(NamedTuple):
    """Outcome of two one-sided tests."""

    equivalent: bool
    """True where both tests reject at `alpha`: the truth lies within the bounds."""
    value: float
    """The estimate."""
    se: float
    """Its standard error, clustered by image."""
    low: float
    """Lower end of the (1 − 2·alpha) interval; equivalent iff it lies within the bounds."""
    high: float
    """Upper end of that interval."""
    bound_low: float
    """Lower equivalence bound."""
    bound_high: float
    """Upper equivalence bound."""
    p: float
    """The larger of the two one-sided p-values."""
    alpha: float
    """Level of each one-sided test."""
    n: int
    """Items used."""
    n_groups: int
    """Images among them."""
    note: str = ""
    """Items dropped, or why no test could be made (then `equivalent` is False)."""


def two_one_sided_tests(
    point: PointSE | Bootstrapped,
    *,
    bound_low: float,
    bound_high: float,
    alpha: float = ALPHA,
) -> Equivalence:
    """TOST of any estimate that carries a standard error; macro averages come as `Bootstrapped`.

    Raises:
        InputError: bounds out of order, or `alpha` outside (0, 0.5).
    """
    if not bound_low < bound_high or not 0.0 < alpha < 0.5:
        raise InputError(
            f"equivalence needs bound_low < bound_high and alpha in (0, 0.5): "
            f"{bound_low}, {bound_high}, {alpha}"
        )
    value, se, df = point.value, point.se, point.n_groups - 1
    if not (math.isfinite(value) and math.isfinite(se) and se > 0 and df >= 1):
        nan = math.nan
        note = join_notes(point.note, "no test: the estimate or its standard error is undefined")
        return Equivalence(
            False, value, se, nan, nan, bound_low, bound_high, nan, alpha, point.n,
            point.n_groups, note,
        )  # fmt: skip
    above_low = float(stats.t.sf((value - bound_low) / se, df))
    below_high = float(stats.t.cdf((value - bound_high) / se, df))
    half = float(stats.t.ppf(1 - alpha, df)) * se
    p = max(above_low, below_high)
    return Equivalence(
        p < alpha, value, se, value - half, value + half, bound_low, bound_high, p, alpha,
        point.n, point.n_groups, point.note,
    )  # fmt: skip


def equivalent_correlation(
    signal: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    bound: float = CORRELATION_BOUND,
    alpha: float = ALPHA,
) -> Equivalence:
    """Is R within ±`bound` of 0? Arguments as `clustered_point_biserial`.

    Raises:
        InputError: as `clustered_point_biserial`; bad bounds.
    """
    point = clustered_point_biserial(signal, correct, groups, strata=strata)
    return two_one_sided_tests(point, bound_low=-bound, bound_high=bound, alpha=alpha)


def equivalent_auroc(
    signal: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    bound: float = AUROC_BOUND,
    alpha: float = ALPHA,
) -> Equivalence:
    """Is the AUROC within 0.5 ± `bound`? Arguments as `clustered_auroc`.

    Raises:
        InputError: as `clustered_auroc`; bad bounds.
    """
    point = clustered_auroc(signal, correct, groups=groups, strata=strata)
    return two_one_sided_tests(point, bound_low=0.5 - bound, bound_high=0.5 + bound, alpha=alpha)


def equivalent_effect(
    before: ArrayLike,
    after: ArrayLike,
    groups: ArrayLike,
    *,
    bound_pp: float = EFFECT_BOUND_PP,
    alpha: float = ALPHA,
) -> Equivalence:
    """Is the paired effect within ±`bound_pp` percentage points of none?

    Raises:
        InputError: as `clustered_difference`; bad bounds.
    """
    point = clustered_difference(before, after, groups)
    return two_one_sided_tests(point, bound_low=-bound_pp, bound_high=bound_pp, alpha=alpha)

"""Point-biserial correlation R of a signal with correctness (arXiv 2605.08200, arXiv 2606.17389).

With `strata`, signal and correctness are centred within each stratum first, so that a signal
cannot correlate merely by telling one model, or one task, from another.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.stats.bootstrap import BootstrapEstimate, Resamples
from vrp.stats.clusters import n_distinct
from vrp.stats.estimate import (
    LEVEL,
    Estimate,
    codes_of,
    complete_sample,
    join_notes,
    take_kept,
    undefined,
)

# Images whose weights are in memory at once.
_PIECE = 2048
TOO_CONSTANT = "signal or correctness does not vary"


class _Centred(NamedTuple):
    signal: NDArray[np.float64]
    correct: NDArray[np.float64]
    strata: NDArray[np.int64]
    n_strata: int
    kept: NDArray[np.bool_]
    note: str


def _centre(signal: ArrayLike, correct: ArrayLike, strata: ArrayLike | None) -> _Centred:
    sample = complete_sample(signal, correct, finite=True)
    codes = codes_of(strata, sample.kept, name="strata")
    counts = np.maximum(np.bincount(codes, minlength=1), 1)
    x, y = sample.signal, sample.correct.astype(np.float64)
    x = x - (np.bincount(codes, weights=x, minlength=1) / counts)[codes]
    y = y - (np.bincount(codes, weights=y, minlength=1) / counts)[codes]
    # What is left of a constant after its mean is taken off is rounding, not signal.
    if x.size and np.abs(x).max() <= 1e-12 * np.abs(sample.signal).max():
        x = np.zeros_like(x)
    return _Centred(x, y, codes, counts.size, sample.kept, sample.note)


def _ratio(xy: NDArray[np.float64], xx: NDArray[np.float64], yy: NDArray[np.float64]) -> NDArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        r = xy / np.sqrt(xx * yy)
    return np.where((xx > 0) & (yy > 0), np.clip(r, -1.0, 1.0), math.nan)


def _correlation(centred: _Centred) -> float:
    x, y = centred.signal, centred.correct
    return float(_ratio(x @ y, x @ x, y @ y))


def point_biserial(signal: ArrayLike, correct: ArrayLike) -> Estimate:
    """Point-biserial R with its Fisher-z interval, items taken as independent.

    `tanh(atanh R ± z/√(n−3))`; p from Student's t with n − 2 degrees of freedom.

    Args:
        signal: (n,) NaN where missing; those items are dropped and counted in the note.
        correct: (n,) 0 or 1.

    Raises:
        InputError: lengths differ, labels are not 0 or 1, infinite values.
    """
    centred = _centre(signal, correct, None)
    n, r = centred.signal.size, _correlation(centred)
    if not math.isfinite(r):
        note = join_notes(centred.note, TOO_CONSTANT)
        return undefined(n=n, n_groups=n, method="fisher-z", note=note)
    df = n - 2
    if df < 2:
        return Estimate(r, math.nan, math.nan, math.nan, n, n, "fisher-z", "too few items")
    half = stats.norm.ppf((1 + LEVEL) / 2) / math.sqrt(df - 1)
    with np.errstate(divide="ignore"):
        z = np.arctanh(r)
        t = r * math.sqrt(df) / np.sqrt(1 - r * r)
    low, high = (float(np.tanh(z - half)), float(np.tanh(z + half)))
    p = float(2 * stats.t.sf(abs(t), df))
    return Estimate(r, low, high, p, n, n, "fisher-z", centred.note)


def _weighted_sums(sums: NDArray[np.float64], weights: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sums over images (k, n_groups), the first of which counts items, in resamples: (k, n_boot).

    A few thousand images at a time, whose weights as floating-point numbers fit the cache.
    """
    present = np.flatnonzero(sums[0] > 0)
    total = np.zeros((len(sums), weights.shape[1]))
    for start in range(0, present.size, _PIECE):
        some = present[start : start + _PIECE]
        total += sums[:, some] @ weights[some].astype(np.float64)
    return total


def bootstrap_point_biserial(
    signal: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: Resamples,
    strata: ArrayLike | None = None,
) -> BootstrapEstimate:
    """Point-biserial R bootstrapped over images; strata are centred anew in every resample.

    Args:
        signal: (n,) NaN where missing.
        correct: (n,) 0 or 1.
        groups: (n,) images, all among those of `resamples`.
        resamples: the study's resampled images.
        strata: (n,) such as model × task: centre within.

    Raises:
        InputError: as `point_biserial`; an unknown image.
    """
    centred = _centre(signal, correct, strata)
    codes = resamples.codes(take_kept(groups, centred.kept, name="groups"))
    x, y = centred.signal, centred.correct
    moments = (np.ones_like(x), x, y, x * x, x * y, y * y)
    n_groups = resamples.group_ids.size
    xx = np.zeros(resamples.n_boot)
    xy, yy = np.zeros_like(xx), np.zeros_like(xx)
    for stratum in range(centred.n_strata):
        here = centred.strata == stratum
        sums: NDArray[np.float64] = np.stack(
            [np.bincount(codes[here], weights=m[here], minlength=n_groups) for m in moments]
        )
        for part, weights in resamples.blocks():
            w, sx, sy, sxx, sxy, syy = _weighted_sums(sums, weights)
            w = np.maximum(w, 1.0)
            xx[part] += sxx - sx * sx / w
            xy[part] += sxy - sx * sy / w
            yy[part] += syy - sy * sy / w
    # Rounding leaves a tiny remainder where a resample has one value only.
    xx[xx < 1e-12 * max(float(x @ x), 1e-300)] = 0.0
    yy[yy < 1e-9] = 0.0
    r = _correlation(centred)
    note = centred.note if math.isfinite(r) else join_notes(centred.note, TOO_CONSTANT)
    n_used = n_distinct(codes)
    return BootstrapEstimate(r, _ratio(xy, xx, yy), x.size, n_used, resamples.key, note)

"""Point-biserial correlation R of a signal with correctness (arXiv 2605.08200, arXiv 2606.17389).

With `strata`, signal and correctness are centred within each stratum first, so that a signal
cannot correlate merely by telling one model, or one task, from another.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.stats.auroc import too_few
from vrp.stats.clusters import (
    MIN_IMAGES,
    TOO_FEW,
    ClusteredEstimate,
    Component,
    n_distinct,
    not_estimated,
)
from vrp.stats.estimate import (
    LEVEL,
    Estimate,
    as_labels,
    codes_of,
    complete_sample,
    join_notes,
    undefined,
)

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


def clustered_correlation(
    signal: ArrayLike,
    correct: ArrayLike,
    codes: NDArray[np.int64],
    *,
    n_images: int,
    name: str,
    strata: ArrayLike | None = None,
) -> ClusteredEstimate:
    """Point-biserial R with the influence of every image; undefined where a cell is too small.

    That is where fewer than ten images have right or wrong answers, or another value than most.

    The influence of an item is `xy − r/2·(x² + y²)` of its centred and scaled values, so that the
    interval on Fisher's scale rests on no normal distribution.

    Args:
        signal: (n,) NaN where missing (dropped, counted).
        correct: (n,) 0 or 1.
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
        name: of the cell; names the component.
        strata: (n,) centre within; strata that are too small are left out. None: one stratum.

    Raises:
        InputError: as `point_biserial`.
    """
    values, labels = np.asarray(signal, dtype=np.float64), as_labels(correct)
    names = np.zeros(values.size, dtype=np.int64) if strata is None else np.asarray(strata)
    kept = ~np.isnan(values)
    small = {}
    for stratum in np.unique(names).tolist():
        here = kept & (names == stratum)
        if reason := too_few(labels[here], codes[here]):
            small[stratum] = reason
    reasons = [reason if strata is None else f"{key} ({reason})" for key, reason in small.items()]
    left_out = f"left out: {', '.join(reasons)}" if strata is not None and reasons else ""
    used = ~np.isin(names, list(small)) if small else np.ones(values.size, dtype=bool)
    centred = _centre(values[used], labels[used], names[used])
    images = codes[used & kept]
    note = join_notes(centred.note, left_out)
    n, n_groups = centred.signal.size, n_distinct(images)
    if not n:
        return not_estimated(note or join_notes(*reasons))
    x, y, r = centred.signal, centred.correct, _correlation(centred)
    if not math.isfinite(r):
        return not_estimated(join_notes(note, TOO_CONSTANT), n=n, n_groups=n_groups)
    n_other = _n_images_off_mode(values[used & kept], names[used & kept], images)
    if n_other < MIN_IMAGES:
        reason = f"{TOO_FEW} images with another value than most: {n_other}"
        return not_estimated(join_notes(note, reason), n=n, n_groups=n_groups)
    xx, yy = x @ x, y @ y
    spread = (x * x / xx + y * y / yy) / 2
    influence = x * y / math.sqrt(xx * yy) - r * spread
    component = Component.of_items(influence, images, n_images, weights=spread)
    null_se = 1 / math.sqrt(n - 1)
    return ClusteredEstimate(r, {f"{name}/items": component}, n, n_groups, note, null_se)


def _n_images_off_mode(
    values: NDArray[np.float64], strata: NDArray, images: NDArray[np.int64]
) -> int:
    """Images with an item that has another value than most of its stratum."""
    off = np.zeros(values.size, dtype=bool)
    for stratum in np.unique(strata):
        here = strata == stratum
        distinct, counts = np.unique(values[here], return_counts=True)
        off[here] = values[here] != distinct[counts.argmax()]
    return n_distinct(images[off])


def correlation_estimate(estimate: ClusteredEstimate) -> Estimate:
    """Value, 95% interval on Fisher's scale (Student's t, clustered), and p-value against 0.

    The standard error is at least that of independent normal values: where few items have another
    value than the rest, their influences do not show what one more would change.
    """
    found = estimate.estimate("clustered-fisher-z", null=0.0, low=-1.0, high=1.0)
    if not math.isfinite(found.low):
        return found
    least = (1 - estimate.value**2) * estimate.null_se
    low, high = estimate.interval(low=-1.0, high=1.0, least_se=least)
    return found._replace(low=low, high=high)

"""Scores turned into probabilities of being right: Platt's sigmoid, or isotonic regression.

Both are non-decreasing maps of one score, and plain numbers: a slope and an intercept, or knots.
Where the scores are probabilities themselves, a sigmoid of their log-odds is tried, too.
Which one is taken follows from the Brier score on images that the map was not fitted on. The Brier
score is used because it stays finite where a map says 0 or 1.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from vrp.errors import InputError, unknown_name
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import clustered_mean, numbered
from vrp.stats.estimate import complete_sample, take_kept

N_FOLDS = 5
"""Folds of images in which a map is judged."""
ISOTONIC_IMAGES = 1000
"""Images under which isotonic regression is not tried: it overfits with fewer items
(Niculescu-Mizil & Caruana 2005)."""
_PLATT, _LOG_ODDS, _ISOTONIC = "platt", "platt of log-odds", "isotonic"
# Probabilities of 0 and 1 are taken as this far from them.
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Platt:
    """A sigmoid of the score (Platt 1999)."""

    slope: float
    """At least 0."""
    intercept: float
    log_odds: bool = False
    """Whether the score, a probability, is turned into log-odds first."""

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(n,) probability of being right, by score (n,); NaN stays NaN."""
        values = np.asarray(scores, dtype=np.float64)
        inner = _as_log_odds(values) if self.log_odds else values
        return expit(self.slope * inner + self.intercept)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        numbers = {"slope": self.slope, "intercept": self.intercept}
        return {"kind": _LOG_ODDS if self.log_odds else _PLATT, **numbers}


@dataclass(frozen=True)
class Isotonic:
    """A non-decreasing line through knots, constant beyond the first and the last."""

    scores: tuple[float, ...]
    """Ascending."""
    probabilities: tuple[float, ...]
    """At each of them."""

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(n,) probability of being right, by score (n,); NaN stays NaN."""
        values = np.asarray(scores, dtype=np.float64)
        return np.interp(values, self.scores, self.probabilities)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        knots = {"scores": list(self.scores), "probabilities": list(self.probabilities)}
        return {"kind": _ISOTONIC, **knots}


Calibrator = Platt | Isotonic
"""A map from scores to probabilities."""


def calibrator_from(document: Mapping[str, Any]) -> Calibrator:
    """Read what `as_json` wrote.

    Raises:
        InputError: it is neither kind, or no non-decreasing map.
    """
    try:
        if (kind := document["kind"]) in (_PLATT, _LOG_ODDS):
            slope, intercept = float(document["slope"]), float(document["intercept"])
            return _checked_platt(Platt(slope, intercept, log_odds=kind == _LOG_ODDS))
        if kind == _ISOTONIC:
            x, y = (tuple(map(float, document[key])) for key in ("scores", "probabilities"))
            return _checked_isotonic(Isotonic(x, y))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"calibrator: malformed ({error!r}); write it again") from error
    raise InputError(f"calibrator: {unknown_name('kind', str(kind), _FITS)}")


def _checked_platt(found: Platt) -> Platt:
    if not (0 <= found.slope < math.inf and math.isfinite(found.intercept)):
        raise ValueError("no non-decreasing sigmoid")
    return found


def _checked_isotonic(found: Isotonic) -> Isotonic:
    x, y = list(found.scores), list(found.probabilities)
    rises = len(x) == len(y) > 0 and x == sorted(set(x)) and y == sorted(y)
    if not (rises and all(map(math.isfinite, x)) and 0 <= y[0] <= y[-1] <= 1):
        raise ValueError("no non-decreasing map to probabilities")
    return found


def fit_platt(scores: ArrayLike, correct: ArrayLike, *, log_odds: bool = False) -> Platt:
    """Fit Platt's sigmoid; where a higher score is not more often right, a constant.

    The labels are smoothed as Platt proposed, (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2), so that separated
    classes have a finite slope.

    Args:
        scores: (n,) finite; larger means "more likely right".
        correct: (n,) 0 or 1.
        log_odds: fit it to the log-odds of the scores, which are probabilities.

    Raises:
        InputError: no items, lengths differ, a score is infinite, or a label is not 0 or 1.
    """
    given, labels = _fitted_items(scores, correct)
    values = _as_log_odds(given) if log_odds else given
    n_right, n_wrong = int(labels.sum()), int((~labels).sum())
    right = np.where(labels, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    centre, spread = float(values.mean()), float(values.std()) or 1.0
    column = ((values - centre) / spread)[:, None]
    # Each item is right with its smoothed label's weight, and wrong with what is left.
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.concatenate([column, column]),
        np.repeat([True, False], values.size),
        sample_weight=np.concatenate([right, 1 - right]),
    )
    slope = float(model.coef_[0, 0]) / spread
    if slope > 0:
        return Platt(slope, float(model.intercept_[0]) - slope * centre, log_odds)
    mean = float(right.mean())
    return Platt(0.0, math.log(mean / (1 - mean)), log_odds)


def _as_log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return logit(np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))


def fit_isotonic(scores: ArrayLike, correct: ArrayLike) -> Isotonic:
    """Fit isotonic regression, which never says 0 or 1: it stays 1/(n + 2) away from both.

    Args:
        scores: (n,) finite; larger means "more likely right".
        correct: (n,) 0 or 1.

    Raises:
        InputError: no items, lengths differ, a score is infinite, or a label is not 0 or 1.
    """
    values, labels = _fitted_items(scores, correct)
    least = 1 / (values.size + 2)
    model = IsotonicRegression(y_min=least, y_max=1 - least).fit(values, labels.astype(float))
    knots = (model.X_thresholds_, model.y_thresholds_)
    x, y = (tuple(np.asarray(values, dtype=np.float64).tolist()) for values in knots)
    return Isotonic(x, y)


_FITS: dict[str, Callable[[ArrayLike, ArrayLike], Calibrator]] = {
    _PLATT: fit_platt,
    _LOG_ODDS: functools.partial(fit_platt, log_odds=True),
    _ISOTONIC: fit_isotonic,
}


class FittedCalibrator(NamedTuple):
    """A calibrator, chosen by rule, with what it says of images that it was not fitted on."""

    calibrator: Calibrator
    """Fitted on all items."""
    probabilities: NDArray[np.float64]
    """(n,) of each item, by a map of the same kind fitted on the other folds; NaN where the score
    is missing."""
    brier: Mapping[str, float]
    """Kind → Brier score of such probabilities; only of the kinds that were tried."""
    reason: str
    """Why this kind was chosen."""


def fit_calibrator(
    scores: ArrayLike, correct: ArrayLike, groups: ArrayLike, *, seed: str
) -> FittedCalibrator:
    """Choose a calibrator by its Brier score on images left out, and fit it.

    Platt's sigmoid is preferred, of the score or, for probabilities, of its log-odds, whichever is
    better: isotonic regression is taken where there are at least 1,000 images and it is better by
    more than one standard error, clustered by image.

    Args:
        scores: (n,) larger means "more likely right"; NaN where missing (left out).
        correct: (n,) 0 or 1.
        groups: (n,) image of each item.
        seed: names the folds.

    Raises:
        InputError: no scores, fewer images than folds, lengths differ, a score is infinite, or a
            label is not 0 or 1.
    """
    sample = complete_sample(scores, correct, finite=True)
    images = take_kept(groups, sample.kept, name="groups")
    fold = image_folds(images, seed=seed)
    codes, n_images = numbered(images)
    held_out = {
        kind: _held_out(kind, sample.signal, sample.correct, fold)
        for kind in _kinds_for(sample.signal, n_images)
    }
    loss = {kind: (found - sample.correct) ** 2 for kind, found in held_out.items()}
    brier = {kind: float(of_items.mean()) for kind, of_items in loss.items()}
    chosen = min((kind for kind in brier if kind != _ISOTONIC), key=brier.__getitem__)
    reason = f"isotonic regression is not tried with fewer than {ISOTONIC_IMAGES:,} images"
    if _ISOTONIC in loss:
        gain = clustered_mean(loss[chosen] - loss[_ISOTONIC], codes, n_images=n_images)
        better = gain.value > gain.se
        chosen = _ISOTONIC if better else chosen
        reason = f"isotonic regression is {'' if better else 'not '}better by a standard error"
    probabilities = np.full(sample.kept.size, np.nan)
    probabilities[sample.kept] = held_out[chosen]
    return FittedCalibrator(
        _FITS[chosen](sample.signal, sample.correct),
        probabilities,
        brier,
        reason,
    )


def _kinds_for(scores: NDArray[np.float64], n_images: int) -> list[str]:
    """Maps to try: the second only for probabilities, the last only with many images."""
    are_probabilities = bool(((scores >= 0) & (scores <= 1)).all())
    left_out = {_LOG_ODDS: not are_probabilities, _ISOTONIC: n_images < ISOTONIC_IMAGES}
    return [kind for kind in _FITS if not left_out.get(kind)]


def _held_out(
    kind: str, scores: NDArray[np.float64], correct: NDArray[np.bool_], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty(scores.size)
    for number in range(N_FOLDS):
        here = fold == number
        found[here] = _FITS[kind](scores[~here], correct[~here]).probability(scores[here])
    return found


def image_folds(images: ArrayLike, *, seed: str) -> NDArray[np.int64]:
    """(n,) fold of each item, 0 to 4: that of its image, whatever the order of the items.

    Args:
        images: (n,) image of each item.
        seed: names the folds.

    Raises:
        InputError: fewer images than folds.
    """
    codes, n_images = numbered(images)
    if n_images < N_FOLDS:
        raise InputError(f"calibration needs at least {N_FOLDS} images with a score: {n_images}")
    return (generator("calibration", seed).permutation(n_images) % N_FOLDS)[codes]


def _fitted_items(
    scores: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    sample = complete_sample(scores, correct, finite=True)
    if sample.signal.size == 0 or not sample.kept.all():
        raise InputError("a calibrator needs items, each with a score")
    return sample.signal, sample.correct

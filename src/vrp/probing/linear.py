"""Linear probe: L2 logistic regression on standardised features (arXiv 2605.08200).

Standardisation, penalty and layer are all chosen inside the training part. The papers used one
stratified 80/20 split, in which an image's questions fall on both sides.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.crossfit import (
    Features,
    Fitted,
    FoldFit,
    PerFold,
    ProbeResult,
    TrainingPart,
    cross_fit,
    finite_features,
)
from vrp.probing.folds import FoldPlan, ProbeItems
from vrp.stats.auroc import auroc

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # without a study, which has `probes.penalties`
"""scikit-learn's C: 1e-4 suits thousands of standardised neurons, 1 suits a handful of signals."""
NEWTON_MAX_FEATURES = 512
"""Newton steps solve a d × d system: faster and exact below this, L-BFGS above."""
MAX_ITERATIONS = 2000
TINY = 1e-12


class _WarmFit:
    """An L2 logistic regression refitted with weaker and weaker penalties on the same data."""

    def __init__(self, features: Any, correct: NDArray[np.bool_]) -> None:
        self._features, self._correct = features, correct
        small = not issparse(features) and features.shape[1] <= NEWTON_MAX_FEATURES
        self._model = LogisticRegression(
            solver="newton-cholesky" if small else "lbfgs",
            warm_start=True,
            max_iter=MAX_ITERATIONS,
        )

    def fit(self, penalty: float) -> "_WarmFit":
        self._model.set_params(C=penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough after so many
            self._model.fit(self._features, self._correct)
        return self

    def log_odds(self, features: Any) -> NDArray[np.float64]:
        return np.asarray(self._model.decision_function(features), dtype=np.float64)

    @property
    def weights(self) -> NDArray[np.float64]:
        return np.asarray(self._model.coef_[0], dtype=np.float64)


def _scaled(train: Any, *others: Any) -> tuple[Any, ...]:
    if issparse(train):
        return (train, *others)  # text weights share one scale already
    scaler = StandardScaler().fit(np.asarray(train, dtype=np.float64))
    return tuple(scaler.transform(np.asarray(x, dtype=np.float64)) for x in (train, *others))


def log_loss(log_odds: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mean log loss of the items that have a score; NaN where none has."""
    defined = np.isfinite(log_odds)
    if not defined.any():
        return math.nan
    sign = np.where(correct[defined], -1.0, 1.0)
    return float(np.logaddexp(0.0, sign * log_odds[defined]).mean())


class _Choice(NamedTuple):
    """The penalty picked, and the scores that it was picked by."""

    penalty: float
    log_odds: NDArray[np.float64]  # (n_train,) out of inner fold; NaN where not to be had
    loss: float  # NaN where no inner part holds both classes


def _choose_penalty(features: Any, part: TrainingPart, penalties: Sequence[float]) -> _Choice:
    """Walk from the strongest penalty to weaker ones until the inner log loss rises."""
    inner_parts = []
    for inner in np.unique(part.inner):
        held_out = part.inner == inner
        labels = part.correct[~held_out]
        if labels.any() and not labels.all():
            train, test = _scaled(features[~held_out], features[held_out])
            inner_parts.append((held_out, _WarmFit(train, labels), test))
    unscored = np.full(part.correct.size, math.nan)
    best = _Choice(penalties[len(penalties) // 2], unscored, math.nan)
    for penalty in penalties if inner_parts else ():
        log_odds = unscored.copy()
        for held_out, model, test in inner_parts:
            log_odds[held_out] = model.fit(penalty).log_odds(test)
        loss = log_loss(log_odds, part.correct)
        if loss >= best.loss:  # False while there is no loss yet
            break
        best = _Choice(penalty, log_odds, loss)
    return best


def macro_auroc(
    log_odds: NDArray[np.float64],
    correct: NDArray[np.bool_],
    task: NDArray[np.generic],
    inner: NDArray[np.int64],
) -> float:
    """Mean over tasks of the AUROC among items of the same inner fold; (n_train,) each."""
    areas = [
        auroc(log_odds[here], correct[here], strata=inner[here])
        for here in (task == name for name in sorted(set(task.tolist())))
    ]
    defined = [area for area in areas if math.isfinite(area)]
    return float(np.mean(defined)) if defined else math.nan


def fit_penalised(
    features: Any, part: TrainingPart, test: Any, penalties: Sequence[float]
) -> Fitted:
    """Pick the penalty by inner log loss, refit with it, score the held-out part.

    The loss falls and then rises along the penalties, so the walk stops at its first rise.

    Args:
        features: (n_train, d) dense (standardised here) or sparse (taken as it is).
        part: labels, tasks and inner folds of the training part.
        test: (n_test, d)
        penalties: scikit-learn's C, ascending.
    """
    choice = _choose_penalty(features, part, penalties)
    train, held_out = _scaled(features, test)
    model = _WarmFit(train, part.correct).fit(choice.penalty)
    return Fitted(
        scores=expit(model.log_odds(held_out)),
        weights=model.weights,
        inner_scores=expit(choice.log_odds),
        inner_auroc=macro_auroc(choice.log_odds, part.correct, part.task, part.inner),
    )


def check_penalties(penalties: Sequence[float]) -> tuple[float, ...]:
    """The penalties ascending, strongest first.

    Raises:
        InputError: none, or one that is not positive.
    """
    if not penalties or min(penalties) <= 0:
        raise InputError(f"penalties (scikit-learn's C) must be positive: {tuple(penalties)}")
    return tuple(sorted(penalties))


def fit_linear(
    features: Features,
    items: ProbeItems,
    plan: FoldPlan,
    *,
    name: str = "linear",
    penalties: Sequence[float] = PENALTIES,
) -> ProbeResult:
    """Linear probe of one feature matrix.

    Args:
        features: (n, d) for example one layer's residual stream; or `chosen_layer_features`.
        items: the items.
        plan: their splits.
        name: the probe's name.
        penalties: scikit-learn's C to choose from.

    Raises:
        InputError: features of another shape or not finite; bad penalties.
    """
    features = finite_features(features, n_items=items.n_items, name=name)
    grid = check_penalties(penalties)

    def learn(part: TrainingPart, test: Any) -> Fitted:
        return fit_penalised(part.features, part, test, grid)

    return cross_fit(name, features, items, plan, learn)


def _chosen_layer(probes: Mapping[str, ProbeResult], fold_row: int) -> str:
    best, best_area = "", -math.inf
    for name, probe in probes.items():
        area = probe.fits[fold_row].inner_auroc
        if area > best_area:  # False for NaN; a tie keeps the earlier layer
            best, best_area = name, area
    return best or next(iter(probes))


def nested_best_layer(probes: Mapping[str, ProbeResult], plan: FoldPlan) -> ProbeResult:
    """The best layer, chosen for each fold on the other folds alone.

    The layer with the highest inner AUROC (macro over tasks) of the training part scores the
    held-out part; picking the best layer by its out-of-fold AUROC instead would flatter it.

    Raises:
        InputError: no layers.
    """
    if not probes:
        raise InputError("a best layer needs at least one layer's probe")
    scores = np.full(plan.fold.size, math.nan)
    stacked: NDArray[np.float64] | None = np.full((len(plan.splits), plan.fold.size), math.nan)
    fits: list[FoldFit] = []
    for row, split in enumerate(plan.splits):
        probe = probes[_chosen_layer(probes, row)]
        scores[split.test] = probe.scores[split.test]
        fits.append(probe.fits[row])
        if stacked is not None and probe.stacked is not None:
            stacked[row] = probe.stacked[row]
        else:
            stacked = None
    return ProbeResult(scores, tuple(fits), stacked)


def chosen_layer_features(best: ProbeResult, load: Callable[[str], NDArray[Any]]) -> PerFold:
    """Features of the layer that `nested_best_layer` chose for each fold, for another probe.

    Args:
        best: from `nested_best_layer`.
        load: layer name → (n, d_model).
    """
    layer = {fit.fold: fit.layer for fit in best.fits}
    return PerFold(lambda fold: load(layer[fold]), layer)


def last_layers(probes: Mapping[str, ProbeResult], *, n_layers: int) -> ProbeResult:
    """The last layers combined: the mean of their probes' log-odds, nothing further fitted.

    Args:
        probes: layer → result, from the first layer to the last.
        n_layers: how many of the last (all, where there are fewer).

    Raises:
        InputError: no layers asked for or given.
    """
    used = list(probes.values())[-n_layers:] if n_layers > 0 else []
    if not used:
        raise InputError("combining layers needs at least one layer")

    def combined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return expit(np.mean([logit(np.clip(p, TINY, 1 - TINY)) for p in parts], axis=0))

    fits = tuple(FoldFit(fit.fold, fit.n_test) for fit in used[0].fits)
    rows = [probe.stacked for probe in used if probe.stacked is not None]
    stacked = combined(rows) if len(rows) == len(used) else None
    return ProbeResult(combined([probe.scores for probe in used]), fits, stacked)

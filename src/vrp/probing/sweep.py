"""Linear probes of every layer, for many sets of labels at once.

The L2 logistic regressions of one layer (outer folds × inner folds × penalties × permutations of
the labels) read the same features. Rotated to their principal axes, the features Z have a diagonal
ZᵀZ, and C/4·ZᵀZ + 1 bounds the curvature of every one of these problems, whichever items it is
fitted on (Böhning & Lindsay 1988). All problems thus descend together by one division a step, with
Nesterov's acceleration, restarted where it overshoots (O'Donoghue & Candès 2015); a step is two
matrix products. `vrp.probing.linear`, which fits one problem after the other with scikit-learn, is
the reference.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from vrp.probing.crossfit import NO_WEIGHTS, FoldFit, ProbeResult, finite_matrix
from vrp.probing.folds import FoldPlan, ProbeItems, Split
from vrp.probing.linear import check_penalties, log_loss, macro_auroc

MAX_STEPS = 3000
DOUBLE_UP_TO = 512
"""Axes up to which double precision costs little; above, single precision."""
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-5}
"""Largest step of a coefficient, in units of a logit at one standard deviation, that ends it."""
_COMPACT_EVERY = 8  # steps between two looks at which problems are done
_ROWS_AT_ONCE = 1024
"""Items whose features are standardised and rotated at a time: a copy of all would double them."""


class Labelling(NamedTuple):
    """One set of labels of the items, with the folds that were planned for it."""

    items: ProbeItems
    plan: FoldPlan


class _Axes(NamedTuple):
    """Standardised features, rotated to their principal axes."""

    features: Tensor
    """(n_judged, r)"""
    others: Tensor
    """(n − n_judged, r) those of the other items, which are scored only."""
    judged: NDArray[np.bool_]
    """(n,) which items are which."""
    squares: Tensor
    """(r,) sum of squares of each axis."""
    rotation: Tensor
    """(d, r) axes of the standardised features."""
    mean: NDArray[np.float64]
    """(d,) of the judged items' features."""
    scale: NDArray[np.float64]
    """(d,) their standard deviation; 1 where they have none."""


class _Problems(NamedTuple):
    """Logistic regressions on the same features, one a column."""

    # Bytes: as many floats as there are items and problems would be the largest arrays of all.
    labels: Tensor
    """(n_judged, k) 0 or 1, uint8."""
    used: Tensor
    """(n_judged, k) 1 where the item is fitted on, else 0, uint8."""

    def select(self, columns: Tensor) -> "_Problems":
        return _Problems(self.labels[:, columns], self.used[:, columns])


class _Fit(NamedTuple):
    """Coefficients of the problems, one a column."""

    weights: Tensor
    """(r, k)"""
    intercepts: Tensor
    """(k,)"""

    def log_odds(self, axes: _Axes) -> NDArray[np.float64]:
        """(n, k) of all items, in the precision of the features."""
        known, others = (
            (features @ self.weights).add_(self.intercepts).cpu().numpy()
            for features in (axes.features, axes.others)
        )
        if not len(others):
            return known
        found = np.empty((axes.judged.size, len(self.intercepts)), dtype=known.dtype)
        found[axes.judged], found[~axes.judged] = known, others
        return found


def fit_layers_together(
    layers: Iterable[tuple[str, NDArray[Any]]],
    labellings: Sequence[Labelling],
    *,
    penalties: Sequence[float],
    overwrite: bool = False,
) -> list[dict[str, ProbeResult]]:
    """Linear probe of every layer and set of labels, one layer in memory at a time.

    Features are standardised over all judged items (no label enters); penalty and scores are as of
    `vrp.probing.linear.fit_linear`: the penalty is picked by the inner log loss, walking from the
    strongest to weaker ones until it rises.

    Args:
        layers: (name, (n, d_model)) from the first layer to the last; may be a generator.
        labellings: sets of labels of the same items.
        penalties: scikit-learn's C to choose from.
        overwrite: whether the matrices may be overwritten, which halves the memory.

    Returns:
        For each labelling, layer name → result, in the order given.

    Raises:
        InputError: features of another shape or not finite; bad penalties.
    """
    grid = check_penalties(penalties)
    found: list[dict[str, ProbeResult]] = [{} for _ in labellings]
    items = labellings[0].items
    for name, features in layers:
        checked = finite_matrix(features, n_items=items.n_items, name=f"linear {name}")
        axes = _rotated(checked, items.judged, overwrite=overwrite)
        for results, result in zip(found, _fit_layer(name, axes, labellings, grid), strict=True):
            results[name] = result
        del features, checked, axes  # before the next layer is read
    return found


class LinearFit(NamedTuple):
    """One logistic regression of standardised features: those less `mean`, over `scale`."""

    weights: NDArray[np.float64]
    """(d,) on standardised features."""
    intercept: float
    mean: NDArray[np.float64]
    """(d,)"""
    scale: NDArray[np.float64]
    """(d,) positive."""
    penalty: float
    """scikit-learn's C that was picked."""

    @property
    def on_raw_features(self) -> tuple[NDArray[np.float64], float]:
        """(d,) weights and the intercept of features as they are, with the same log-odds."""
        weights = self.weights / self.scale
        return weights, self.intercept - float(weights @ self.mean)


def fit_once(
    features: NDArray[Any],
    labelling: Labelling,
    *,
    penalties: Sequence[float],
    overwrite: bool = False,
) -> LinearFit | None:
    """Fit the training part of a plan with one split, as `fit_layers_together` does.

    Args:
        features: (n, d_model)
        labelling: labels, and a plan such as `plan_all_items` makes.
        penalties: scikit-learn's C to choose from.
        overwrite: whether the features may be overwritten, which halves the memory.

    Returns:
        None where every training item is right, or every one wrong.

    Raises:
        InputError: features of another shape or not finite; bad penalties.
    """
    grid = check_penalties(penalties)
    items, (split,) = labelling.items, labelling.plan.splits
    part = _Part(0, split, items.correct, items.task[split.train])
    if not part.has_both_classes:
        return None
    checked = finite_matrix(features, n_items=items.n_items, name="linear")
    axes = _rotated(checked, items.judged, overwrite=overwrite)
    penalty = grid[_choose_penalties(axes, [part], grid)[0].place]
    problem = _problems(axes, [(part.labels, split.train)])
    fit = _solve(axes, problem, torch.tensor([penalty]))
    weights = (axes.rotation @ fit.weights).double().cpu().numpy()[:, 0]
    return LinearFit(weights, float(fit.intercepts[0]), axes.mean, axes.scale, penalty)


def step_along(
    weights: NDArray[np.float64],
    features: NDArray[Any],
    judged: NDArray[np.bool_],
    train: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return (d,) the change of the features that is one standard deviation along a probe.

    Its direction is that in which the log-odds of right rise fastest; its length is the standard
    deviation, over the training items, of the features along it. Zeros without weights.

    Args:
        weights: (d,) of one fold, on standardised features, as `fit_layers_together` returns them.
        features: (n, d) of all items.
        judged: (n,) the items by which features were standardised.
        train: rows of the fold's training items.
    """
    if not weights.any():
        return np.zeros(features.shape[1])
    _, scale = _mean_and_scale(features, np.flatnonzero(judged))
    direction = weights / scale
    direction /= np.linalg.norm(direction)
    return direction * float((features[train] @ direction).std())


def _rotated(features: NDArray[Any], judged: NDArray[np.bool_], *, overwrite: bool) -> _Axes:
    """Standardise the features and rotate them to the principal axes of the judged items."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known, others = np.flatnonzero(judged), np.flatnonzero(~judged)
    smaller = min(known.size, features.shape[1])
    precision = torch.float64 if smaller <= DOUBLE_UP_TO else torch.float32
    mean, scale = _mean_and_scale(features, known)
    centre, spread = (torch.as_tensor(a).to(device, precision) for a in (mean, scale))

    def standardised(rows: NDArray[np.intp]) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, rows.size, _ROWS_AT_ONCE):
            piece = torch.as_tensor(features[rows[start : start + _ROWS_AT_ONCE]])
            values = (piece.to(device, precision) - centre) / spread
            yield slice(start, start + len(values)), values

    if features.shape[1] <= known.size:
        products = centre.new_zeros(len(centre), len(centre))
        for _, values in standardised(known):
            products += values.T @ values
        squares, rotation = torch.linalg.eigh(products)
    else:
        # Fewer items than features: the axes of the items are found first.
        every = torch.cat([values for _, values in standardised(known)])
        squares, of_items = torch.linalg.eigh(every @ every.T)
        lengths = squares.clamp(min=0).sqrt()
        rotation = every.T @ (of_items / torch.where(lengths > 0, lengths, torch.inf))
    # Rounding blurs what is under `least`; the bound on curvature must hold all the same.
    least = 16 * torch.finfo(precision).eps * squares.max()
    kept = squares > least
    rotation = rotation[:, kept]
    rotated_others = centre.new_empty(others.size, rotation.shape[1])
    for rows, values in standardised(others):
        rotated_others[rows] = values @ rotation
    into = _room(features, known.size, rotation, overwrite=overwrite)
    for rows, values in standardised(known):
        into[rows] = values @ rotation
    return _Axes(into, rotated_others, judged, squares[kept] + least, rotation, mean, scale)


def _mean_and_scale(
    features: NDArray[Any], rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(d,) mean and standard deviation of some rows, 1 where all are equal; piece by piece."""

    def average(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        total = np.zeros(features.shape[1])
        for start in range(0, rows.size, _ROWS_AT_ONCE):
            piece = features[rows[start : start + _ROWS_AT_ONCE]].astype(np.float64)
            total += of(piece).sum(axis=0)
        return total / rows.size

    mean = average(lambda values: values)
    deviation = np.sqrt(average(lambda values: (values - mean) ** 2))
    rounding = rows.size * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(deviation > rounding, deviation, 1.0)


def _room(features: NDArray[Any], n_rows: int, rotation: Tensor, *, overwrite: bool) -> Tensor:
    """(n_rows, r) where rotated features go: over the first rows of the features, if they may.

    A row is then written where it was, or before: it has been read by then.
    """
    given = torch.as_tensor(features) if overwrite and features.flags.writeable else None
    if given is None or (given.dtype, given.device) != (rotation.dtype, rotation.device):
        return rotation.new_empty(n_rows, rotation.shape[1])
    return given[:n_rows, : rotation.shape[1]]


class _Part(NamedTuple):
    """The training part of one fold and labelling, and the penalty picked so far."""

    labelling: int
    split: Split
    labels: NDArray[np.bool_]
    """(n,) of all items."""
    tasks: NDArray[np.generic]

    @property
    def has_both_classes(self) -> bool:
        """Whether the training part holds right and wrong items."""
        return 0 < int(self.labels[self.split.train].sum()) < self.split.train.size

    @property
    def inner_folds(self) -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
        """Inner folds whose training part holds both classes: (held out, fitted on)."""
        parts = []
        for inner in np.unique(self.split.inner):
            held_out = self.split.inner == inner
            rows = self.split.train[~held_out]
            if self.labels[rows].any() and not self.labels[rows].all():
                parts.append((held_out, rows))
        return parts


def _fit_layer(
    name: str, axes: _Axes, labellings: Sequence[Labelling], penalties: Sequence[float]
) -> list[ProbeResult]:
    parts = [
        _Part(number, split, labelling.items.correct, labelling.items.task[split.train])
        for number, labelling in enumerate(labellings)
        for split in labelling.plan.splits
    ]
    fitted = [part for part in parts if part.has_both_classes]
    choices = _choose_penalties(axes, fitted, penalties)
    chosen = torch.tensor([penalties[choice.place] for choice in choices])
    final = _solve(axes, _problems(axes, [(p.labels, p.split.train) for p in fitted]), chosen)
    log_odds = final.log_odds(axes)
    weights = (axes.rotation @ final.weights).double().cpu().numpy()
    n = axes.judged.size
    results = []
    for number, labelling in enumerate(labellings):
        scores, stacked = np.full(n, math.nan), np.full((len(labelling.plan.splits), n), math.nan)
        fits, of_fold = [], {
            part.split.fold: column
            for column, part in enumerate(fitted)
            if part.labelling == number
        }  # fmt: skip
        for row, split in enumerate(labelling.plan.splits):
            column = of_fold.get(split.fold)
            if column is None:
                fits.append(FoldFit(split.fold, split.test.size, name))
                continue
            held_out = log_odds[split.test, column].astype(np.float64)
            scores[split.test] = stacked[row, split.test] = expit(held_out)
            inner = choices[column].log_odds
            stacked[row, split.train] = expit(inner)
            area = macro_auroc(
                inner, labelling.items.correct[split.train], fitted[column].tasks, split.inner
            )
            own = weights[:, column] if number == 0 else NO_WEIGHTS
            fits.append(FoldFit(split.fold, split.test.size, name, own, area))
        results.append(ProbeResult(scores, tuple(fits), stacked))
    return results


class _Choice(NamedTuple):
    """The penalty picked for one training part, and the scores that it was picked by."""

    place: int
    """Index among the penalties."""
    log_odds: NDArray[np.float64]
    """(n_train,) out of inner fold; NaN where not to be had."""
    loss: float
    """NaN where no inner part holds both classes."""


def _choose_penalties(
    axes: _Axes, parts: Sequence[_Part], penalties: Sequence[float]
) -> list[_Choice]:
    """Walk from the strongest penalty to weaker ones until a part's inner log loss rises."""
    best = [
        _Choice(len(penalties) // 2, np.full(part.split.train.size, math.nan), math.nan)
        for part in parts
    ]
    walking = [number for number, part in enumerate(parts) if part.inner_folds]
    before: _Fit | None = None
    for place, penalty in enumerate(penalties):
        if not walking:
            break
        inner = [(number, *fold) for number in walking for fold in parts[number].inner_folds]
        fit = _solve(
            axes,
            _problems(axes, [(parts[number].labels, rows) for number, _, rows in inner]),
            torch.full((len(inner),), penalty),
            start=before,
        )
        log_odds = fit.log_odds(axes)
        scores = {number: np.full(parts[number].split.train.size, math.nan) for number in walking}
        for column, (number, held_out, _) in enumerate(inner):
            rows = parts[number].split.train[held_out]
            scores[number][held_out] = log_odds[rows, column]
        losses = {
            number: log_loss(scores[number], parts[number].labels[parts[number].split.train])
            for number in walking
        }
        # A comparison with NaN, where there is no loss yet, is False.
        ended = {number for number in walking if losses[number] >= best[number].loss}
        walking = [number for number in walking if number not in ended]
        for number in walking:
            best[number] = _Choice(place, scores[number], losses[number])
        kept = torch.tensor([number not in ended for number, _, _ in inner])
        before = _Fit(fit.weights[:, kept], fit.intercepts[kept])
    return best


def _problems(
    axes: _Axes, given: Sequence[tuple[NDArray[np.bool_], NDArray[np.int64]]]
) -> _Problems:
    """Problems of (labels of all items, rows to fit on)."""
    place = np.cumsum(axes.judged) - 1
    labels, used = np.zeros((2, len(axes.features), len(given)), dtype=np.uint8)
    for column, (correct, rows) in enumerate(given):
        labels[:, column] = correct[axes.judged]
        used[place[rows], column] = 1
    return _Problems(*(torch.from_numpy(a).to(axes.features.device) for a in (labels, used)))


def _solve(
    axes: _Axes, problems: _Problems, penalties: Tensor, *, start: _Fit | None = None
) -> _Fit:
    """Minimise C·Σ log loss + |weights|²/2 of every problem; the intercept is free.

    Args:
        axes: the features.
        problems: what is fitted on what.
        penalties: (k,) scikit-learn's C of each problem.
        start: coefficients to start from.
    """
    k = problems.labels.shape[1]
    strength = penalties.to(axes.features)
    zero = _Fit(axes.features.new_zeros(len(axes.squares), k), axes.features.new_zeros(k))
    now = start or zero
    done = _Fit(now.weights.clone(), now.intercepts.clone())
    active = torch.arange(k, device=axes.features.device)
    ahead, momentum = now, axes.features.new_ones(k)
    tolerance = _TOLERANCE[axes.features.dtype]
    for step in range(MAX_STEPS):
        moved = _descend(axes, problems, strength, ahead)
        change = _Fit(moved.weights - now.weights, moved.intercepts - now.intercepts)
        # Against the direction that was looked ahead to: the momentum overshot.
        overshot = ((ahead.weights - moved.weights) * change.weights).sum(dim=0) + (
            (ahead.intercepts - moved.intercepts) * change.intercepts
        ) > 0
        momentum = torch.where(overshot, torch.ones_like(momentum), momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        reach = torch.where(overshot, torch.zeros_like(momentum), (momentum - 1) / following)
        ahead = _Fit(
            moved.weights + reach * change.weights, moved.intercepts + reach * change.intercepts
        )
        now, momentum = moved, following
        if step % _COMPACT_EVERY and step < MAX_STEPS - 1:
            continue
        deviation = (axes.squares / len(axes.features)).sqrt()[:, None]
        size = torch.maximum(
            (change.weights * deviation).abs().amax(dim=0), change.intercepts.abs()
        )
        done.weights[:, active], done.intercepts[active] = now.weights, now.intercepts
        going = torch.nonzero(size > tolerance)[:, 0]
        if not len(going):
            break
        if len(going) < len(active):
            active, problems, strength = active[going], problems.select(going), strength[going]
            now = _Fit(now.weights[:, going], now.intercepts[going])
            ahead = _Fit(ahead.weights[:, going], ahead.intercepts[going])
            momentum = momentum[going]
    return done


def _descend(axes: _Axes, problems: _Problems, strength: Tensor, at: _Fit) -> _Fit:
    """One step of every problem from `at`, by the bound on its curvature."""
    # In place: there may be hundreds of problems, and as many copies of (n_judged, k) as steps.
    residual = (axes.features @ at.weights).add_(at.intercepts).sigmoid_()
    residual.sub_(problems.labels).mul_(problems.used).mul_(strength)
    gradient = axes.features.T @ residual + at.weights
    bound = strength * axes.squares[:, None] / 4 + 1
    intercept = residual.sum(dim=0) / (strength * len(axes.features) / 4)
    return _Fit(at.weights - gradient / bound, at.intercepts - intercept)

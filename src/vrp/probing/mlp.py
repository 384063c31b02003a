"""MLP probe: one hidden layer of 256, ReLU, Adam at 1e-4, 50 epochs (arXiv 2605.08200)."""

import warnings
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from vrp.probing.crossfit import (
    Features,
    Fitted,
    ProbeResult,
    RowView,
    TrainingPart,
    cross_fit,
    finite_features,
)
from vrp.probing.folds import FoldPlan, ProbeItems

HIDDEN_UNITS = 256
LEARNING_RATE = 1e-4
N_EPOCHS = 50
# Columns that are standardised at a time take so much in float64.
_BLOCK_BYTES = 2**26
_SCORED_AT_ONCE = 65_536


def standardised(
    train: NDArray | RowView, *others: NDArray | RowView
) -> tuple[NDArray[np.float32], ...]:
    """Matrices in the scale of the first: mean 0 and variance 1 of each of its columns.

    Worked out in float64, some columns at a time, and returned in float32: that halves the
    probe's time, and its own noise is far above the rounding.

    Args:
        train: (n_train, d)
        others: (…, d) each.
    """
    views = [x if isinstance(x, RowView) else RowView.of(np.asarray(x)) for x in (train, *others)]
    n, d = views[0].shape
    # At least two columns: numpy adds up a single one in another order.
    n_blocks = max(1, d // max(2, _BLOCK_BYTES // (8 * max(n, 1))))
    edges = np.linspace(0, d, n_blocks + 1).astype(int).tolist()
    scaled = tuple(np.empty(view.shape, dtype=np.float32) for view in views)
    for start, stop in pairwise(edges):
        scaler = StandardScaler()
        scaler.fit(views[0].columns(start, stop).astype(np.float64))
        for view, into in zip(views, scaled, strict=True):
            into[:, start:stop] = scaler.transform(view.columns(start, stop).astype(np.float64))
    return scaled


def _probabilities(model: MLPClassifier, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) of a right answer; hidden units of some items at a time."""
    parts = [
        model.predict_proba(features[start : start + _SCORED_AT_ONCE])[:, 1]
        for start in range(0, len(features), _SCORED_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def _mlp_learner(part: TrainingPart, test: NDArray | RowView) -> Fitted:
    """Standardised inputs, every epoch run, no early stop."""
    train, held_out = standardised(part.features, test)
    model = MLPClassifier(
        hidden_layer_sizes=(HIDDEN_UNITS,), activation="relu", solver="adam",
        learning_rate_init=LEARNING_RATE, max_iter=N_EPOCHS,
        n_iter_no_change=N_EPOCHS + 1, random_state=part.seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are the recipe
        model.fit(train, part.correct)
    return Fitted(_probabilities(model, held_out))


def fit_mlp(
    features: Features, items: ProbeItems, plan: FoldPlan, *, name: str = "mlp"
) -> ProbeResult:
    """MLP probe of one feature matrix (or of a layer per fold).

    Args:
        features: (n, d); or `chosen_layer_features`.
        items: the items.
        plan: their splits.
        name: the probe's name, which enters its seeds.

    Raises:
        InputError: features of another shape or not finite.
    """
    features = finite_features(features, n_items=items.n_items, name=name)
    if isinstance(features, np.ndarray):
        features = RowView.of(features)
    return cross_fit(name, features, items, plan, _mlp_learner)

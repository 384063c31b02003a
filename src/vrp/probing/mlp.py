"""MLP probe: one hidden layer of 256, ReLU, Adam at 1e-4, 50 epochs (arXiv 2605.08200)."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from vrp.probing.crossfit import (
    Features,
    Fitted,
    Learner,
    ProbeResult,
    TrainingPart,
    cross_fit,
    finite_features,
)
from vrp.probing.folds import FoldPlan, ProbeItems

HIDDEN_UNITS = 256
LEARNING_RATE = 1e-4
N_EPOCHS = 50


def mlp_learner(
    *,
    hidden_units: int = HIDDEN_UNITS,
    learning_rate: float = LEARNING_RATE,
    n_epochs: int = N_EPOCHS,
) -> Learner:
    """The MLP learner for `cross_fit`: standardised inputs, every epoch run, no early stop."""

    def fit(part: TrainingPart, test: NDArray) -> Fitted:
        # float32 halves the time; the probe's own noise is far above its rounding.
        scaler = StandardScaler()
        train = scaler.fit_transform(np.asarray(part.features, dtype=np.float64))
        model = MLPClassifier(
            hidden_layer_sizes=(hidden_units,), activation="relu", solver="adam",
            learning_rate_init=learning_rate, max_iter=n_epochs,
            n_iter_no_change=n_epochs + 1, random_state=part.seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are the recipe
            model.fit(train.astype(np.float32), part.correct)
        held_out = scaler.transform(np.asarray(test, dtype=np.float64)).astype(np.float32)
        return Fitted(model.predict_proba(held_out)[:, 1].astype(np.float64))

    return fit


def fit_mlp(
    features: Features,
    items: ProbeItems,
    plan: FoldPlan,
    *,
    name: str = "mlp",
    hidden_units: int = HIDDEN_UNITS,
    learning_rate: float = LEARNING_RATE,
    n_epochs: int = N_EPOCHS,
) -> ProbeResult:
    """MLP probe of one feature matrix (or of a layer per fold).

    Args:
        features: (n, d); or `chosen_layer_features`.
        items: the items.
        plan: their splits.
        name: the probe's name.
        hidden_units: width of the hidden layer.
        learning_rate: Adam's.
        n_epochs: passes over the training part.

    Raises:
        InputError: features of another shape or not finite.
    """
    features = finite_features(features, n_items=items.n_items, name=name)
    learner = mlp_learner(hidden_units=hidden_units, learning_rate=learning_rate, n_epochs=n_epochs)
    return cross_fit(name, features, items, plan, learner)

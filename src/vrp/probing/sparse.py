"""Sparse probe: which few neurons carry the prediction (arXiv 2605.08200).

L1 logistic regression, `C=0.1` on standardised inputs. The weights of fold k come from items
outside fold k: to ablate "top neurons" on an item, take those of the item's own fold.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.crossfit import (
    Features,
    Fitted,
    ProbeResult,
    TrainingPart,
    cross_fit,
    finite_features,
)
from vrp.probing.folds import FoldPlan, ProbeItems

SPARSE_PENALTY = 0.1  # without a study, which has `probes.sparse_c`
MAX_ITERATIONS = 1000


def fit_sparse(
    features: Features,
    items: ProbeItems,
    plan: FoldPlan,
    *,
    penalty: float = SPARSE_PENALTY,
) -> ProbeResult:
    """Sparse probe of one layer (or of a layer per fold).

    Args:
        features: (n, d_model) residual stream of one layer; or `chosen_layer_features`.
        items: the items.
        plan: their splits.
        penalty: scikit-learn's C.

    Raises:
        InputError: features of another shape or not finite; a bad penalty.
    """
    if penalty <= 0:
        raise InputError(f"the sparse probe's C must be positive: {penalty}")

    def learn(part: TrainingPart, test: NDArray) -> Fitted:
        scaler = StandardScaler()
        train = scaler.fit_transform(np.asarray(part.features, dtype=np.float64))
        # Coordinate descent reaches exact zeros; the intercept, which liblinear penalises too,
        # is scaled up so that the base rate is hardly held back.
        model = LogisticRegression(
            l1_ratio=1.0, solver="liblinear", C=penalty, intercept_scaling=10.0,
            max_iter=MAX_ITERATIONS, random_state=part.seed,
        )  # fmt: skip
        model.fit(train, part.correct)
        held_out = scaler.transform(np.asarray(test, dtype=np.float64))
        return Fitted(model.predict_proba(held_out)[:, 1], model.coef_[0])

    features = finite_features(features, n_items=items.n_items, name="sparse")
    return cross_fit("sparse", features, items, plan, learn)


def share_of_top(weights: ArrayLike, k: int = 5) -> float:
    """Share of the total |weight| that lies on the `k` largest; NaN where all weights are zero."""
    size = np.sort(np.abs(np.asarray(weights, dtype=np.float64)))[::-1]
    total = float(size.sum())
    return float(size[:k].sum()) / total if total > 0 else float("nan")


def share_nonzero(weights: ArrayLike) -> float:
    """Share of neurons that the probe keeps; NaN without weights."""
    values = np.asarray(weights)
    return float(np.count_nonzero(values)) / values.size if values.size else float("nan")

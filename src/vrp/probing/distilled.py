"""Self-consistency read from the hidden state: the signal of ten samples in one pass."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.crossfit import Features, ProbeResult, rank_held_out
from vrp.probing.folds import FoldPlan, ProbeItems, Split

STRENGTHS = tuple(float(10.0**power) for power in range(6))
"""Ridge penalties to choose from, by leave-one-out error on the training items (Golub, Heath &
Wahba 1979)."""


def fit_distilled(
    features: Features, target: NDArray[np.floating], items: ProbeItems, plan: FoldPlan
) -> ProbeResult:
    """Ridge regression of a signal on the hidden state, scored on held-out images.

    Args:
        features: (n, d_model) residual stream of one layer; or `chosen_layer_features`.
        target: (n,) for example the share of the majority answer among the samples; items without
            it (NaN) are scored and not fitted on.
        items: the items.
        plan: their splits.

    Raises:
        InputError: features of another shape or not finite; not one target per item.
    """
    if target.shape != (items.n_items,):
        raise InputError(f"distilled: one target per item is needed, found {target.shape}")

    def predicted(matrix: NDArray[np.floating], split: Split) -> NDArray[np.float64]:
        rows = split.train[np.isfinite(target[split.train])]
        if rows.size < 2:
            return np.full(split.test.size, np.nan)
        scaler = StandardScaler().fit(np.asarray(matrix[rows], dtype=np.float64))
        model = RidgeCV(alphas=STRENGTHS).fit(scaler.transform(matrix[rows]), target[rows])
        return np.asarray(model.predict(scaler.transform(matrix[split.test])))

    return rank_held_out("distilled", features, items, plan, predicted)

"""Self-consistency read from the hidden state: the signal of ten samples in one pass."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.crossfit import Features, FoldFit, ProbeResult, features_of, finite_features
from vrp.probing.folds import FoldPlan, ProbeItems

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
    checked = finite_features(features, n_items=items.n_items, name="distilled")
    scores = np.full(items.n_items, np.nan)
    fits = []
    for split in plan.splits:
        read, layer = features_of(checked, split.fold)
        matrix = np.asarray(read)
        rows = split.train[np.isfinite(target[split.train])]
        if rows.size > 1:
            scaler = StandardScaler().fit(np.asarray(matrix[rows], dtype=np.float64))
            model = RidgeCV(alphas=STRENGTHS).fit(scaler.transform(matrix[rows]), target[rows])
            scores[split.test] = model.predict(scaler.transform(matrix[split.test]))
        fits.append(FoldFit(split.fold, split.test.size, layer))
    return ProbeResult(scores, tuple(fits), is_probability=False)

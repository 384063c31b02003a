"""Distance of a hidden state to those of the training items: unusual states as a sign of error.

The baseline of Lee et al. 2018, as uncertainty toolkits use it for language models (Vazhentsev
et al. 2022): the Mahalanobis distance to one Gaussian of all training items. No label enters.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.preprocessing import StandardScaler

from vrp.probing.crossfit import Features, ProbeResult, rank_held_out
from vrp.probing.folds import FoldPlan, ProbeItems, Split


def mahalanobis(train: NDArray[np.floating], test: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n_test,) Mahalanobis distance to the mean of the training items.

    Of standardised features, with the covariance shrunk towards a multiple of the identity by
    Ledoit and Wolf's (2004) formula, since there are often more neurons than items. With fewer
    items than neurons the inverse is that of the items' axes; all others have the variance that
    shrinkage gives them.

    Args:
        train: (n_train, d)
        test: (n_test, d)
    """
    scaler = StandardScaler().fit(np.asarray(train, dtype=np.float64))
    centred = scaler.transform(np.asarray(train, dtype=np.float64))
    others = scaler.transform(np.asarray(test, dtype=np.float64))
    n, d = centred.shape
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    spread = float((centred**2).sum()) / (n * d)  # mean variance
    if n < d:
        squares, left = np.linalg.eigh(centred @ centred.T)
        kept = squares > squares[-1] * n * np.finfo(np.float64).eps
        squares = squares[kept]
        axes = centred.T @ left[:, kept] / np.sqrt(squares)
    else:
        squares, axes = np.linalg.eigh(centred.T @ centred)
    variances = (1 - shrinkage) * np.maximum(squares, 0) / n + shrinkage * spread
    along = others @ axes
    distance = (along**2 / variances).sum(axis=1)
    across = np.maximum((others**2).sum(axis=1) - (along**2).sum(axis=1), 0)
    if axes.shape[1] < d:
        distance += across / (shrinkage * spread)
    return np.sqrt(distance)


def fit_mahalanobis(features: Features, items: ProbeItems, plan: FoldPlan) -> ProbeResult:
    """Closeness of each item to the training items of its fold: the distance with its sign turned.

    Args:
        features: (n, d_model) residual stream of one layer; or `chosen_layer_features`.
        items: the items.
        plan: their splits.

    Raises:
        InputError: features of another shape or not finite.
    """

    def closeness(matrix: NDArray[np.floating], split: Split) -> NDArray[np.float64]:
        return -mahalanobis(matrix[split.train], matrix[split.test])

    return rank_held_out("Mahalanobis distance", features, items, plan, closeness)

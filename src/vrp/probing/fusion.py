"""Fusion: all signals that a deployed system has, in one standardised logistic regression.

The caller passes *deployable* signals only: nothing that needs the reference answer (truth
margin, correctness, the majority answer's correctness).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.errors import InputError
from vrp.probing.crossfit import Fitted, PerFold, ProbeResult, TrainingPart, cross_fit
from vrp.probing.folds import FoldPlan, ProbeItems
from vrp.probing.linear import PENALTIES, check_penalties, fit_penalised


def _filled(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Missing values replaced by the training part's median (0 where it has none at all)."""
    known = ~np.isnan(train).all(axis=0)
    medians = np.zeros(train.shape[1])
    medians[known] = np.nanmedian(train[:, known], axis=0)
    return np.where(np.isnan(train), medians, train), np.where(np.isnan(test), medians, test)


def fit_fusion(
    signals: Mapping[str, ArrayLike],
    items: ProbeItems,
    plan: FoldPlan,
    *,
    probes: Mapping[str, ProbeResult] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> ProbeResult:
    """Standardised logistic regression over signals, fitted on training folds.

    A missing value becomes the training part's median, and a signal with any missing value gets
    an indicator column after them. Probes enter by their *nested* scores (`ProbeResult.stacked`):
    ordinary out-of-fold scores of training items come from models that saw the held-out labels.

    Args:
        signals: name → (n,) values, NaN where missing.
        items: the items.
        plan: their splits, the same that the probes were fitted with.
        probes: name → linear probe (or its best or last layers) to fuse as well.
        penalties: scikit-learn's C to choose from.

    Raises:
        InputError: nothing to fuse, a signal of another length or with infinite values, or a
            probe without nested scores.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for signal, values in signals.items():
        column = np.asarray(values, dtype=np.float64)
        if column.shape != (items.n_items,) or np.isinf(column).any():
            raise InputError(
                f"fusion: signal {signal!r} must have {items.n_items} values, none infinite"
            )
        columns[signal] = column
    extra = dict(probes or {})
    for probe, result in extra.items():
        if result.stacked is None or result.stacked.shape[1] != items.n_items:
            raise InputError(f"fusion: probe {probe!r} has no nested scores for these items")
    if not columns and not extra:
        raise InputError("fusion: no signals to fuse")
    # Missingness can be informative: the model failed to give a map or samples.
    absent = [np.isnan(column) for column in columns.values()]
    indicators = [missing.astype(np.float64) for missing in absent if missing.any()]
    grid = check_penalties(penalties)

    def of_fold(fold: int) -> NDArray[np.float64]:
        nested = [result.stacked[fold] for result in extra.values() if result.stacked is not None]
        return np.column_stack([*columns.values(), *nested, *indicators])

    def learn(part: TrainingPart, test: NDArray) -> Fitted:
        train, held_out = _filled(part.features, test)
        return fit_penalised(train, part, held_out, grid)

    return cross_fit("fusion", PerFold(of_fold), items, plan, learn)

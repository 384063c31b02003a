"""Calibration of confidences: whether 0.8 means right in 80% of cases."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vrp.errors import InputError
from vrp.stats.estimate import complete_sample
from vrp.stats.proportion import wilson

N_BINS = 10
"""Bins of equal width."""


class ReliabilityBin(NamedTuple):
    """One bin of a reliability diagram."""

    edge_low: float
    """Lower edge, exclusive but for the first bin."""
    edge_high: float
    """Upper edge, inclusive."""
    n: int
    """Items in the bin."""
    confidence: float
    """Mean confidence; NaN in an empty bin."""
    accuracy: float
    """Share right; NaN in an empty bin."""
    low: float
    """Lower end of the accuracy's Wilson 95% interval."""
    high: float
    """Upper end of it."""


class Calibration(NamedTuple):
    """Expected calibration error and the reliability diagram that it sums up."""

    ece: float
    """Σ n_bin/n · |accuracy − confidence|, 0 to 1; NaN without items."""
    bins: tuple[ReliabilityBin, ...]
    """Reliability diagram, ascending."""
    n: int
    """Items used."""
    note: str
    """Items dropped and why."""


def calibration(confidence: ArrayLike, correct: ArrayLike) -> Calibration:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017) with its diagram.

    Args:
        confidence: (n,) probability of being right, in [0, 1]; NaN where missing (dropped).
        correct: (n,) 0 or 1.

    Raises:
        InputError: a confidence outside [0, 1], lengths differ, labels are not 0 or 1.
    """
    sample = complete_sample(confidence, correct)
    values, labels = sample.signal, sample.correct
    if ((values < 0) | (values > 1)).any():
        raise InputError("calibration needs confidences in [0, 1]")
    if values.size == 0:
        return Calibration(math.nan, (), 0, sample.note or "no items")
    edges = np.linspace(0.0, 1.0, N_BINS + 1)
    index = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, N_BINS - 1)
    bins, error = [], 0.0
    for b in range(N_BINS):
        here = index == b
        n = int(here.sum())
        accuracy = wilson(int(labels[here].sum()), n)
        mean = float(values[here].mean()) if n else math.nan
        if n:
            error += n / values.size * abs(accuracy.value - mean)
        bins.append(
            ReliabilityBin(
                float(edges[b]), float(edges[b + 1]), n, mean, accuracy.value,
                accuracy.low, accuracy.high,
            )
        )  # fmt: skip
    return Calibration(error, tuple(bins), values.size, sample.note)

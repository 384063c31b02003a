"""Scores whose AUROC is known, for tests of intervals."""

import math

import numpy as np
from scipy.stats import norm


def _edges(area, share_wrong, levels):
    return norm.ppf(np.arange(1, levels) / levels) + _shift(area) * (1 - share_wrong)


def _shift(area):
    return math.sqrt(2) * norm.ppf(area)


def drawn(random, n, share_wrong, area, *, levels=None):
    """Normal scores of right and wrong items, `area` apart, or cut into so many levels."""
    correct = random.random(n) >= share_wrong
    signal = random.normal(size=n) + _shift(area) * correct
    if levels:
        signal = np.digitize(signal, _edges(area, share_wrong, levels)).astype(float)
    return signal, correct


def true_auroc(area, share_wrong, levels=None):
    """AUROC of such scores without sampling: levels tie some pairs."""
    if not levels:
        return area
    edges = _edges(area, share_wrong, levels)
    right, wrong = (np.diff(np.r_[0, norm.cdf(edges - shift), 1]) for shift in (_shift(area), 0.0))
    return float(sum(right[i] * (wrong[:i].sum() + wrong[i] / 2) for i in range(levels)))

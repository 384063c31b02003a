"""Exact tests of a mean by betting, for bounded values that may take any shape.

One bets against the hypothesis that the mean is at least 0, with a capital of 1: value after value
the capital is multiplied by 1 − stake · value, where the stake depends on earlier values alone and
leaves the capital positive. Under the hypothesis it then grows on average nowhere, so the chance
that it ever reaches 1 / level is at most level, for any number of values (Ville 1939;
Waudby-Smith & Ramdas 2024).

The stake aims at 1 / level by the last value, and is worked out anew for each from the capital and
the number of values left (Voráček & Orabona 2025). It is what holds the value of a bet on that end
among normal values (Browne 1999): with capital · level = Φ(z), φ(z) / Φ(z) over the standard
deviation of the sum of the values left.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

_GREATEST_STAKE = 0.95
"""Of the stake with which the greatest value would take all."""
_LEAST_SHARE = 1e-300
"""Of the capital that is aimed at: what φ(z) / Φ(z) is worked out for."""


def betting_p(
    values: ArrayLike, *, low: ArrayLike, high: ArrayLike, level: float, n_seen: int = 0
) -> NDArray[np.float64]:
    """Return p-values of the hypotheses that means are at least 0.

    The values are independent and have the same mean; their order depends on none of them.

    Args:
        values: (n, k) of k hypotheses, each between `low` and `high`.
        low: least possible value, below 0; one, or (k,).
        high: greatest possible value, above 0; one, or (k,).
        level: of the test that the stakes aim at; the p-values hold at every level.
        n_seen: values at the beginning that are not bet on and only tell how much they vary.

    Returns:
        (k,) inverse of the greatest capital, at most 1.
    """
    every, least, most = (np.asarray(part, dtype=np.float64) for part in (values, low, high))
    # A value seen beforehand: the most that values of mean 0 can vary.
    squares = np.square(every[:n_seen]).sum(axis=0) - least * most
    log_capital = np.zeros(every.shape[1])
    greatest = log_capital
    for index in range(n_seen, len(every)):
        deviation = np.sqrt(squares / (index + 1) * (len(every) - index))
        stake = np.minimum(_stake(log_capital, level) / deviation, _GREATEST_STAKE / most)
        log_capital = log_capital + np.log1p(-stake * every[index])
        greatest = np.maximum(greatest, log_capital)
        squares += np.square(every[index])
    return np.exp(-greatest)


def _stake(log_capital: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(k,) stake times the standard deviation of what is left; aims at the next 1 / level^m."""
    step = -math.log(level)
    share = np.exp(log_capital - step * (np.floor(log_capital / step) + 1).clip(min=1))
    share = np.clip(share, _LEAST_SHARE, 1.0)
    return np.exp(-np.square(ndtri(share)) / 2) / math.sqrt(2 * math.pi) / share

"""Behavioural signals: what the answers themselves and their probabilities say.

Source: arXiv 2606.17389 (self-consistency), arXiv 2605.08200 (token confidence).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class SelfConsistency(NamedTuple):
    """Agreement among K sampled answers."""

    score: float
    """S_SC: share of the K answers that equal the majority, in [1/K, 1]."""
    majority: str
    """The most frequent normalised answer; of equally frequent ones, that sampled first."""


def self_consistency(answers: Sequence[str]) -> SelfConsistency:
    """Find the majority among sampled, normalised answers and its share (arXiv 2606.17389).

    `answers` are in the order in which they were sampled. Raises ValueError for no answer.
    """
    if isinstance(answers, str) or not answers:
        raise ValueError("self-consistency needs a sequence of at least one answer")
    # A counter keeps the order of first appearance, and max keeps the first of equals.
    counts = Counter(answers)
    majority = max(counts, key=counts.__getitem__)
    return SelfConsistency(counts[majority] / len(answers), majority)


def token_confidence(logprobs: ArrayLike) -> float:
    """Compute P_tok, the mean log-probability of the greedy answer's tokens, nats (≤ 0).

    NaN for an answer of no tokens or with a NaN among them. Raises ValueError for a positive
    log-probability.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"one answer's log-probabilities are needed, got shape {values.shape}")
    if values.size == 0:
        return float("nan")
    if (values > 1e-6).any():  # a hair over zero is rounding of a certain token
        raise ValueError(f"a log-probability cannot be positive, got {values.max():.6g}")
    return float(values.mean())

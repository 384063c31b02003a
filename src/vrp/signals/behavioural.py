"""Behavioural signals: what the answers themselves and their probabilities say.

Source: arXiv 2606.17389 (self-consistency), arXiv 2605.08200 (token confidence); semantic entropy
of answers that a normalisation makes equal: Farquhar et al. 2024 (its discrete form).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr


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


def semantic_entropy(answers: Sequence[str]) -> float:
    """Entropy of sampled, normalised answers: that of the shares of equal ones, nats.

    Raises ValueError for no answer.
    """
    if isinstance(answers, str) or not answers:
        raise ValueError("semantic entropy needs a sequence of at least one answer")
    shares = np.array(list(Counter(answers).values())) / len(answers)
    return float(-shares @ np.log(shares)) + 0.0


def exact_semantic_entropy(probabilities: ArrayLike, unresolved: float) -> float:
    """Entropy of a model's distribution over answers, nats; at least that much.

    Args:
        probabilities: (n,) of the known answers.
        unresolved: mass of unknown answers, taken as one more answer: were it several, the
            entropy would be larger.
    """
    mass = np.append(np.asarray(probabilities, dtype=np.float64), unresolved)
    known = mass[mass > 0]
    return float(-known @ np.log(known)) + 0.0


def probability_margin(first_logprob: ArrayLike, logit_margin: ArrayLike) -> NDArray[np.float64]:
    """Probability of the first answer token minus its runner-up's.

    Args:
        first_logprob: (n,) log-probability of the first token of the greedy answer.
        logit_margin: (n,) its logit minus the runner-up's, whose probability is e^−margin of it.
    """
    probability = np.exp(np.asarray(first_logprob, dtype=np.float64))
    return -probability * np.expm1(-np.asarray(logit_margin, dtype=np.float64))


def first_token_divergence(logprobs: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Jensen–Shannon distance of two distributions over the first answer token, in [0, √log 2].

    The tokens that are not listed count as one more: at most √(log 2 · their mass) is missed.

    Args:
        logprobs: (n, m) log-probabilities of the same m tokens in one, nats.
        others: (n, m) in the other.

    Returns:
        (n,) square root of the divergence, in nats.
    """
    lists = [np.exp(np.asarray(values, dtype=np.float64)) for values in (logprobs, others)]
    rest = [np.clip(1 - mass.sum(axis=-1, keepdims=True), 0, None) for mass in lists]
    first, second = (np.append(mass, left, axis=-1) for mass, left in zip(lists, rest, strict=True))
    middle = (first + second) / 2
    divergence = (rel_entr(first, middle) + rel_entr(second, middle)).sum(axis=-1) / 2
    # Rounding may leave a hair below zero, which has no root.
    return np.sqrt(np.maximum(divergence, 0.0))


def judged_true(yes: ArrayLike, no: ArrayLike) -> tuple[float, float]:
    """P(True) of Kadavath et al. 2022: probability of yes among yes and no.

    Args:
        yes: (m,) log-probabilities of the tokens that say yes.
        no: (k,) of those that say no.

    Returns:
        Probability of yes, given yes or no, and that of yes or no; NaN where one is not finite.
    """
    p_yes, p_no = (float(np.exp(np.asarray(v, dtype=np.float64)).sum()) for v in (yes, no))
    mass = p_yes + p_no
    return (p_yes / mass if mass > 0 else float("nan")), mass


def token_confidence(logprobs: ArrayLike) -> float:
    """Compute P_tok, the mean log-probability of the greedy answer's tokens, nats (≤ 0).

    NaN for an answer of no tokens or with a NaN among them. Raises ValueError for a positive
    log-probability.
    """
    values = _log_probabilities(logprobs)
    return float(values.mean()) if values.size else float("nan")


def sequence_log_probability(logprobs: ArrayLike) -> float:
    """Log-probability of the whole greedy answer, nats; arguments as of `token_confidence`."""
    values = _log_probabilities(logprobs)
    return float(values.sum()) if values.size else float("nan")


def least_token_log_probability(logprobs: ArrayLike) -> float:
    """Log-probability of the answer's least likely token; arguments as of `token_confidence`."""
    values = _log_probabilities(logprobs)
    return float(values.min()) if values.size else float("nan")


def _log_probabilities(logprobs: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(logprobs, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"one answer's log-probabilities are needed, got shape {values.shape}")
    if (values > 1e-6).any():  # a hair over zero is rounding of a certain token
        raise ValueError(f"a log-probability cannot be positive, got {values.max():.6g}")
    return values

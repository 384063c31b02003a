"""The score that a monitor gives an answer: a linear function of what one pass says."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.signals.registry import SIGNALS, SignalInputs, is_of_output

TOKEN_CONFIDENCE = "token_confidence"
"""Mean log-probability of the answer's tokens; its score is on the scale of log-odds."""
LOG_ODDS = "token_confidence_log_odds"
"""The feature that token confidence is scored by."""
PROBE = "probe"
"""Log-odds that the linear probe reads from the hidden state at the prompt's end."""
FUSION = "fusion"
"""Logistic regression of all one-pass signals and the probe."""
PREDICTORS = (TOKEN_CONFIDENCE, PROBE, FUSION)
"""In the order in which they are preferred."""


# Closest to certainty that float32 tells apart.
_LEAST_DOUBT = 1e-7


def log_odds_of(token_confidence: ArrayLike) -> NDArray[np.float64]:
    """(n,) log-odds p / (1 − p), p the geometric mean of the tokens' probabilities.

    Args:
        token_confidence: (n,) log p, nats.

    On this scale Platt's sigmoid is a temperature and a shift.
    """
    log_p = np.minimum(np.asarray(token_confidence, dtype=np.float64), -_LEAST_DOUBT)
    return log_p - np.log(-np.expm1(log_p))


class Probe(NamedTuple):
    """A linear probe of one decoder layer at the prompt's last token."""

    layer: int
    """Decoder layer, from 0."""
    weights: NDArray[np.float64]
    """(d_model,) on the hidden state."""
    intercept: float

    def log_odds(self, states: ArrayLike) -> NDArray[np.float64]:
        """(n,) log-odds of a right answer, of hidden states (n, d_model)."""
        return np.asarray(states, dtype=np.float64) @ self.weights + self.intercept


class Predictor(NamedTuple):
    """Score = features · weights + intercept; larger means "more likely right"."""

    kind: str
    """One of `PREDICTORS`."""
    features: tuple[str, ...]
    """Names of one-pass signals; `probe` stands for the probe's log-odds."""
    weights: NDArray[np.float64]
    """(n_features,)"""
    intercept: float
    probe: Probe | None = None
    """Where `probe` is among the features."""

    @property
    def reads_first_token(self) -> bool:
        """Whether more is read of the first token than its log-probability."""
        return bool(set(self.features) - {LOG_ODDS, PROBE})

    def score(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """(n,) scores, from (n,) values of each feature; NaN where one is missing."""
        columns = [np.asarray(values[name], dtype=np.float64) for name in self.features]
        scores = np.column_stack(columns) @ self.weights + self.intercept
        return np.where(np.isfinite(scores), scores, np.nan)


_READ = frozenset({
    "answers.token_logprobs", "answers.first_token_entropy", "answers.decision_margin",
    "lens.decision_margin",
})  # fmt: skip


def one_pass_signals() -> tuple[str, ...]:
    """Return the names of the signals that the greedy pass gives by itself, without a sample."""
    return tuple(
        name
        for name, signal in SIGNALS.items()
        if is_of_output(signal) and set(signal.needs) <= _READ
    )


def signal_values(
    names: Sequence[str],
    token_logprobs: Sequence[ArrayLike],
    first_entropy: ArrayLike,
    first_margin: ArrayLike,
) -> dict[str, NDArray[np.float64]]:
    """Compute one-pass signals of a batch with the registry's own functions.

    Args:
        names: of `one_pass_signals`, and `LOG_ODDS` beside `TOKEN_CONFIDENCE`.
        token_logprobs: log-probabilities of each answer's tokens, without end of sequence.
        first_entropy: (n,) entropy of the first token's distribution, nats.
        first_margin: (n,) its highest logit minus the second highest.
    """
    margin = np.asarray(first_margin, dtype=np.float64)
    inputs = SignalInputs(
        n_items=len(token_logprobs),
        columns={
            "answers.token_logprobs": [np.asarray(one) for one in token_logprobs],
            "answers.first_token_entropy": first_entropy,
            "answers.decision_margin": margin,
            "lens.decision_margin": margin[:, None],  # of the last layer
        },
    )
    found = {name: SIGNALS[name].compute(inputs) for name in names if name in SIGNALS}
    return with_log_odds(found) if LOG_ODDS in names else found


def with_log_odds(values: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Add the feature that token confidence is scored by."""
    known = {name: np.asarray(one, dtype=np.float64) for name, one in values.items()}
    return {**known, LOG_ODDS: log_odds_of(known[TOKEN_CONFIDENCE])}

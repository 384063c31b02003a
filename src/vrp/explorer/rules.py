"""Rules that pick answers worth a look, each a pair of conditions.

A rule is shown with how many answers meet both of its conditions, and how many would if the two
were unrelated within strata: only a difference between the two numbers says something.

High and low are meant among all judged answers of the model. Among those of one task and form they
would say little: where a model is unsure of all answers, the most confident one is not confident.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

UNKNOWN = 4
"""Flag of an answer of which a condition is not known."""
_QUARTER = 0.25


@dataclass(frozen=True)
class AnswerFacts:
    """What rules are told of a model's answers, a row an item."""

    rows: pl.DataFrame
    """As in `vrp.explorer.answers.ModelAnswers`."""
    changed: NDArray[np.float64]
    """(n,) whether hiding the most attended image tokens changes the answer; NaN: not asked."""

    def column(self, name: str) -> NDArray[np.float64]:
        """(n,) numbers of a column; NaN where they are missing."""
        if name not in self.rows.columns:
            return np.full(len(self.rows), np.nan)
        values: NDArray[np.float64] = self.rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return values

    def beyond_quartile(self, signal: str, *, low: bool) -> NDArray[np.float64]:
        """(n,) 1 where a signal is at or beyond the quartile of the model's judged answers, else 0.

        NaN: the signal has no value, or the answer was not judged.
        """
        values = self.column(f"signal {signal}")
        inside = np.isfinite(values) & np.isfinite(self.column("correct"))
        found = np.full(len(values), np.nan)
        if inside.any():
            cut = np.quantile(values[inside], _QUARTER if low else 1 - _QUARTER)
            found[inside] = values[inside] <= cut if low else values[inside] >= cut
        return found


Condition = Callable[[AnswerFacts], NDArray[np.float64]]
"""(n,) 1 where it is met, 0 where it is not, NaN where that is not known."""


@dataclass(frozen=True)
class Rule:
    """Two conditions of an answer."""

    name: str
    label: str
    description: str
    first: Condition
    second: Condition

    def flags(self, facts: AnswerFacts) -> NDArray[np.uint8]:
        """Return (n,) the sum of 1 (the first is met) and 2 (the second is met), or UNKNOWN."""
        first, second = self.first(facts), self.second(facts)
        known = ~(np.isnan(first) | np.isnan(second))
        return np.where(known, np.nan_to_num(first) + 2 * np.nan_to_num(second), UNKNOWN).astype(
            np.uint8
        )


def _low(signal: str) -> Condition:
    return lambda facts: facts.beyond_quartile(signal, low=True)


def _high(signal: str) -> Condition:
    return lambda facts: facts.beyond_quartile(signal, low=False)


def _right(facts: AnswerFacts) -> NDArray[np.float64]:
    return facts.column("correct")


def _wrong(facts: AnswerFacts) -> NDArray[np.float64]:
    return 1 - facts.column("correct")


def _samples_agree(facts: AnswerFacts) -> NDArray[np.float64]:
    share = facts.column("signal self_consistency")
    return np.where(np.isnan(share), np.nan, share == 1)


def _same_blind(facts: AnswerFacts) -> NDArray[np.float64]:
    return facts.column("same_blind")


RULES: tuple[Rule, ...] = (
    Rule(
        "confident_wrong", "Confident but wrong",
        "token confidence in the highest quarter of all judged answers of the model, and wrong",
        _high("token_confidence"), _wrong,
    ),
    Rule(
        "unsure_right", "Unsure but right",
        "token confidence in the lowest quarter of all judged answers of the model, and right",
        _low("token_confidence"), _right,
    ),
    Rule(
        "sharp_wrong", "Sharp but wrong",
        "spatial entropy H_s of the attention map in the lowest quarter of all judged answers of "
        "the model, and wrong",
        _low("spatial_entropy"), _wrong,
    ),
    Rule(
        "diffuse_right", "Diffuse but right",
        "spatial entropy H_s of the attention map in the highest quarter of all judged answers of "
        "the model, and right",
        _high("spatial_entropy"), _right,
    ),
    Rule(
        "consistent_wrong", "Consistent but wrong",
        "all sampled answers are the same, and the greedy one is wrong",
        _samples_agree, _wrong,
    ),
    Rule(
        "blind_right", "Same without the image, and right",
        "the answer to a blank image is the same, and it is right",
        _same_blind, _right,
    ),
    Rule(
        "blind_wrong", "Same without the image, and wrong",
        "the answer to a blank image is the same, and it is wrong",
        _same_blind, _wrong,
    ),
    Rule(
        "masking_changes_right", "Right, and changed by masking",
        "right, and the answer changes when the most attended image tokens are hidden",
        lambda facts: facts.changed, _right,
    ),
)  # fmt: skip
"""In the order in which they are shown."""

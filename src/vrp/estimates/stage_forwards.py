"""What the stages that signals are read from cost: forwards an item, as the tables tell."""

from collections.abc import Iterable
from typing import NamedTuple

from vrp.signals.registry import SIGNALS

ANSWERING = "extract"
"""The stage that asks the models: what it keeps costs no forward beyond the answer's."""
SAMPLING = "consistency"
"""The stage that samples K answers."""

# Tables of signals that another run of the model fills, and its stage.
_OWN_RUNS = {"blind_scores": "blind", SAMPLING: SAMPLING, "p_true": "p_true"}


class Forwards(NamedTuple):
    """Passes through the language model, an item."""

    prefills: float
    """Over a whole prompt."""
    steps: float
    """Over one further token; at most, equal beginnings of samples are run once."""


def stage_forwards(stage: str, *, answer_tokens: float, k: int) -> Forwards:
    """Forwards that a stage runs for one item.

    Each answer token is read once, to predict the one after it or the end. Sampled answers count
    as long as the greedy one.

    Args:
        stage: one that signals are read from.
        answer_tokens: mean length of the greedy answers; NaN where it is not known.
        k: sampled answers an item.

    Raises:
        KeyError: no signal is read from this stage's forwards.
    """
    return {
        ANSWERING: Forwards(1.0, answer_tokens),
        SAMPLING: Forwards(1.0, k * answer_tokens),
        "blind": Forwards(1.0, 0.0),  # the given answer is scored along with the prompt
        "p_true": Forwards(1.0, 0.0),  # the first token tells
    }[stage]


def stage_of(column: str) -> str:
    """The stage whose forwards give a column of a table, such as `lens.truth_margin`; what no run
    of its own gives is read with the answer, or from a file."""
    return _OWN_RUNS.get(column.partition(".")[0], ANSWERING)


def signal_stages(names: Iterable[str]) -> tuple[str, ...]:
    """Stages whose forwards signals need beyond the answer's."""
    needed = {stage_of(need) for name in names for need in SIGNALS[name].needs}
    return tuple(stage for stage in _OWN_RUNS.values() if stage in needed)


def total_forwards(stages: Iterable[str], *, answer_tokens: float, k: int) -> Forwards:
    """Sum of `stage_forwards`."""
    each = [stage_forwards(stage, answer_tokens=answer_tokens, k=k) for stage in stages]
    return Forwards(sum(one.prefills for one in each), sum(one.steps for one in each))

"""What a signal or probe costs beyond the answer: forwards an item, from what the tables hold."""

from collections.abc import Iterable
from typing import NamedTuple

from vrp.estimates.predictors import predictor_label
from vrp.probing.labels import OUTPUT_FUSION
from vrp.signals.registry import SIGNALS, is_of_output

ANSWERING = "extract"
"""The stage that asks the models: what it keeps costs no forward beyond the answer's."""
SAMPLING = "consistency"
"""The stage that samples K answers."""

# Tables of signals that another run of the model fills, and its stage.
_OWN_RUNS = {"blind_scores": "blind", SAMPLING: SAMPLING, "p_true": "p_true"}
_MOST_NAMES = 3


class Forwards(NamedTuple):
    """Passes through the language model, an item."""

    prefills: float
    """Over a whole prompt."""
    steps: float
    """Over one further token, at most: equal beginnings of samples are run once."""

    @property
    def total(self) -> float:
        """All passes."""
        return self.prefills + self.steps

    def plus(self, other: "Forwards") -> "Forwards":
        """Both, one after the other."""
        return Forwards(self.prefills + other.prefills, self.steps + other.steps)


NO_FORWARDS = Forwards(0.0, 0.0)


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


def extra_stages(predictor: str, captured: Iterable[str]) -> tuple[str, ...]:
    """Stages whose forwards a predictor needs beyond the answer's.

    Args:
        predictor: a signal, or a probe: one of hidden states needs none, a fusion what it fuses.
        captured: the study's signals, of which a fusion takes the deployable ones.
    """
    if predictor in SIGNALS:
        return signal_stages([predictor])
    if "fusion" not in predictor:
        return ()
    fused = [name for name in captured if SIGNALS[name].deployable]
    if predictor.startswith(OUTPUT_FUSION):
        fused = [name for name in fused if is_of_output(SIGNALS[name])]
    return signal_stages(fused)


def extra_forwards(stages: Iterable[str], *, answer_tokens: float, k: int) -> Forwards:
    """Forwards of several stages together, an item."""
    found = NO_FORWARDS
    for stage in stages:
        found = found.plus(stage_forwards(stage, answer_tokens=answer_tokens, k=k))
    return found


def read_from(stage: str) -> str:
    """The signals that need a stage's forwards, for a table: some labels and how many more."""
    labels = [
        predictor_label(name) for name, signal in SIGNALS.items()
        if signal.deployable and stage in {stage_of(need) for need in signal.needs}
    ]  # fmt: skip
    if len(labels) > _MOST_NAMES:
        labels = [*labels[: _MOST_NAMES - 1], f"{len(labels) - _MOST_NAMES + 1} more signals"]
    return ", ".join(labels)

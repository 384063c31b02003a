"""The signal to trust: the cheapest predictor that is about as good as the best one."""

import math
from typing import NamedTuple

from vrp.estimates.predictors import is_deployable
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.stage_forwards import SAMPLING, signal_stages
from vrp.estimates.verdicts import Verdict, judge
from vrp.findings.evidence import ModelEvidence
from vrp.findings.guards import claim_of
from vrp.probing.labels import OUTPUT_FUSION, OUTPUT_FUSION_WITH_PROBE
from vrp.signals.registry import SIGNALS, is_of_output

_OF_THE_OUTPUT = (OUTPUT_FUSION, OUTPUT_FUSION_WITH_PROBE)


class Cost(NamedTuple):
    """What a predictor costs beyond the answer, cheapest first when sorted."""

    forwards: float
    """Further runs of the model an item, each a prefill or a sampled answer; infinite where the
    number of samples is not known."""
    fitted: bool
    """Whether it is fitted to labelled answers."""
    words: str
    """The same in words."""


class Choice(NamedTuple):
    """The predictor to trust, and the one of the highest AUROC."""

    predictor: str
    """The cheapest that is about as good as the best one."""
    auroc: ReportedEstimate
    """Its AUROC within strata."""
    best: str
    """The predictor of the highest AUROC."""
    best_auroc: ReportedEstimate
    """That AUROC."""


def choose(model: ModelEvidence) -> Choice | None:
    """Pick a model's signal: the cheapest that is about as good as the best one.

    The comparison is paired by item: the interval of its AUROC minus that of the best one must be
    above minus the study's equivalence margin. A predictor counts only if it can be deployed, its
    AUROC differs noticeably from chance, and it passes its guards. None if there is no such
    predictor.
    """
    telling = {name: number for name in deployable(model) if (number := _telling(model, name))}
    if not telling:
        return None
    best = max(telling, key=lambda name: telling[name].value)
    short = model.short_of(best, tuple(name for name in telling if name != best))
    near = [best, *(name for name in short if short[name].low > -model.margins.auroc)]
    name = min(near, key=lambda one: (cost_of(model, one)[:2], -telling[one].value))
    return Choice(name, telling[name], best, telling[best])


def deployable(model: ModelEvidence) -> list[str]:
    """The signals and probes of a model that need no label when they are used."""
    return [n for n in (*model.signals(), *model.probe_names()) if is_deployable(n)]


def cost_of(model: ModelEvidence, predictor: str) -> Cost:
    """What a signal or probe costs beyond the answer and what is read in the same forward pass.

    A fusion costs what all the signals cost that enter it.
    """
    runs = runs_of(model, predictor)
    n_prefills = sum(stage != SAMPLING for stage in runs)
    samples = (model.k or math.inf) if SAMPLING in runs else 0
    fitted = predictor not in SIGNALS
    return Cost(samples + n_prefills, fitted, _in_words(model.k, samples > 0, n_prefills, fitted))


def runs_of(model: ModelEvidence, predictor: str) -> tuple[str, ...]:
    """The stages that run the model once more for what a predictor needs beyond the answer."""
    return signal_stages(_signals_of(model, predictor))


def _signals_of(model: ModelEvidence, predictor: str) -> list[str]:
    """The signals that must be computed for a predictor."""
    if predictor in SIGNALS:
        return [predictor]
    if "fusion" not in predictor:
        return []
    judged = [
        name
        for name in model.signals()
        if SIGNALS[name].deployable and (number := model.auroc(name)) and number.captured
    ]
    only_output = predictor in _OF_THE_OUTPUT
    return [name for name in judged if is_of_output(SIGNALS[name]) or not only_output]


def _in_words(k: int, sampled: bool, n_prefills: int, fitted: bool) -> str:
    parts = [f"{k or 'several'} sampled answers"] if sampled else []
    if n_prefills:
        parts.append("one more prefill" if n_prefills == 1 else f"{n_prefills} more prefills")
    if parts:
        return " and ".join(parts)
    if fitted:
        return "nothing at run time; it is fitted to labelled answers"
    return "nothing: it is read with the answer"


def _telling(model: ModelEvidence, name: str) -> ReportedEstimate | None:
    """The AUROC of a predictor that tells right from wrong as it claims; None otherwise."""
    claim = claim_of(model, name)
    if claim is None or judge({name: claim}).verdict is not Verdict.YES:
        return None
    return claim.number if claim.number.value > 0.5 else None

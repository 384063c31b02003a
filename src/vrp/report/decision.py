"""The decision that a study supports: which signal to trust for each model, and what is gained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import ReportedEstimate, plain
from vrp.estimates.stage_forwards import ANSWERING, Forwards, total_forwards
from vrp.estimates.verdicts import (
    Judgement,
    Verdict,
    judge,
    size_of,
)
from vrp.findings.evidence import ModelEvidence
from vrp.findings.guards import claim_of
from vrp.findings.recommendation import choose, cost_of, deployable, runs_of
from vrp.probing.labels import LINEAR_BEST
from vrp.report.claim_words import shortcoming, smallest_detectable
from vrp.report.costs import ItemTimes, counted
from vrp.report.numbers import NONE, decimal
from vrp.report.tabular import Bar, Cell, Table, estimate_cell, name_cell
from vrp.signals.registry import SIGNALS, attention_signals
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import MIN_IMAGES, numbered
from vrp.stats.proportion import clustered_share
from vrp.study.results import ModelResults
from vrp.tables.estimates import POOLED
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

SHARES = (80, 50)
"""Percent of the items that are answered, where the least confident are not."""
FIFTHS = 5
"""Groups of equal size in which accuracy is shown, from the least confident to the most."""


class Answered(NamedTuple):
    """The items of one task that a threshold lets pass."""

    share: float
    """Of the task's items."""
    accuracy: float
    """Share of right answers among them; NaN where none passes."""


class Recommendation(NamedTuple):
    """The cheapest predictor that is about as good as the best one."""

    predictor: str
    """Name of the predictor."""
    auroc: ReportedEstimate
    """Its AUROC within strata."""
    cost: str
    """What it costs beyond the answer, in words."""
    forwards: Forwards
    """The same in passes through the language model, an item."""
    runs: tuple[str, ...]
    """Stages that make these passes."""
    best: str
    """The predictor of the highest AUROC."""
    best_auroc: ReportedEstimate
    """That AUROC; the recommended one's lies less than the study's margin below it."""
    thresholds: Mapping[int, float]
    """Percent → value from which (or up to which, see `rises`) the most confident items lie that
    make up this share; empty where there are no values."""
    rises: bool
    """Whether larger values mean more confidence."""
    fifths: tuple[Bar, ...]
    """Accuracy in fifths of the items, the least confident first; empty where it is not known."""
    by_task: Mapping[int, Mapping[str, Answered]]
    """Percent → task → what the threshold lets pass of it; empty where there are no values."""


class Decision(NamedTuple):
    """What a study says about one model's answers."""

    model: str
    accuracy: ReportedEstimate | None
    """Share of right answers when all items are answered."""
    recommended: Recommendation | None
    """None where nothing tells right answers from wrong ones."""
    at_80: ReportedEstimate | None
    """Accuracy when the most confident 80% are answered."""
    at_50: ReportedEstimate | None
    """The same for 50%."""
    weaker: tuple[str, ...]
    """Signals that are weaker or uninformative, in words."""
    verdict: Verdict
    """Whether anything that could be used tells right answers from wrong ones."""

    def as_json(self) -> dict[str, Any]:
        """Plain data for the summary."""
        found = self.recommended
        return {
            "signal": found.predictor if found else None,
            "auroc": found.auroc.as_json() if found else None,
            "cost": found.cost if found else None,
            "cost_forwards": plain(found.forwards._asdict()) if found else None,
            "best_signal": found.best if found else None,
            **{
                f"threshold_for_{share}": plain(found.thresholds.get(share)) if found else None
                for share in SHARES
            },
            "larger_is_surer": found.rises if found else None,
            "accuracy_at_80": self.at_80.as_json() if self.at_80 else None,
            "accuracy_at_50": self.at_50.as_json() if self.at_50 else None,
            "fifths": [bar._asdict() for bar in found.fifths] if found else [],
            "answered_by_task": {
                str(share): {task: plain(one._asdict()) for task, one in by_task.items()}
                for share, by_task in (found.by_task if found else {}).items()
            },
            "tells_less": list(self.weaker),
        }


Values = Mapping[str, pl.DataFrame]
"""Predictor → `score`, `correct`, `group` and `task` of the items that have them."""


def read_values(model: ModelResults) -> Values:
    """Return the values of every signal, and the out-of-fold scores of every probe."""
    signals = model.table(signal_table())
    judged = signals.select("item_id", "correct", "group", "task").drop_nulls()
    found = {
        name: signals.select("correct", "group", "task", score=name).drop_nulls().drop_nans()
        for name in SIGNALS
    }
    scores = model.table(PREDICTIONS).join(judged, on="item_id")
    for (name,), rows in scores.partition_by("probe", as_dict=True).items():
        found[str(name)] = rows.select("correct", "group", "task", "score").drop_nans()
    return found


def decide(model: ModelEvidence, values: Values) -> Decision:
    """Decide which signal to trust for a model (`choose`), and what that buys.

    Args:
        model: what the tables say.
        values: of each predictor.
    """
    choice = choose(model)
    accuracy = model.metric("model", "accuracy", POOLED)
    claims = {name: claim for name in deployable(model) if (claim := claim_of(model, name))}
    verdict = judge(claims).verdict
    if choice is None:
        return Decision(model.name, accuracy, None, None, None, _weaker(model, None), verdict)
    name = choice.predictor
    runs = runs_of(model, name)
    rises = name not in SIGNALS or SIGNALS[name].reliable_when != "low"
    known = values.get(name, pl.DataFrame({"score": [], "correct": [], "group": [], "task": []}))
    score = known["score"].to_numpy().astype(np.float64) * (1 if rises else -1)
    thresholds = _thresholds(score)
    recommended = Recommendation(
        name, choice.auroc, cost_of(model, name).words,
        total_forwards(runs, answer_tokens=model.answer_tokens, k=model.k), runs,
        choice.best, choice.best_auroc,
        {share: least if rises else -least for share, least in thresholds.items()}, rises,
        _fifths(known[_ascending(score)]),
        {share: _by_task(known, score >= least) for share, least in thresholds.items()},
    )  # fmt: skip
    at_80, at_50 = (
        model.metric(name, f"accuracy_at_{share}", POOLED)
        or model.probe(name, f"accuracy_at_{share}", POOLED)
        for share in SHARES
    )
    return Decision(model.name, accuracy, recommended, at_80, at_50, _weaker(model, name), verdict)


def _thresholds(score: NDArray[np.float64]) -> dict[int, float]:
    """Percent → least score of the most confident items that make up this share."""
    if not len(score):
        return {}
    return {share: float(np.quantile(score, 1 - share / 100)) for share in SHARES}


def _by_task(known: pl.DataFrame, passes: NDArray[np.bool_]) -> dict[str, Answered]:
    """What passes of each task, in the order of the tasks' names."""
    tasks = known["task"].to_numpy()
    correct = known["correct"].to_numpy()
    found = {}
    for task in np.unique(tasks).tolist():
        own = tasks == task
        right = correct[own & passes]
        accuracy = float(right.mean()) if right.size else math.nan
        found[task] = Answered(float(passes[own].mean()), accuracy)
    return found


def _ascending(score: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of the items; equal scores in random order, since that of the items is by task."""
    return np.lexsort((generator("equal scores", len(score)).random(len(score)), score))


def _fifths(ranked: pl.DataFrame) -> tuple[Bar, ...]:
    """Accuracy of five groups of items, from the least confident to the most."""
    if len(ranked) < FIFTHS:
        return ()
    found = []
    for places in np.array_split(np.arange(len(ranked)), FIFTHS):
        part = ranked[places]
        codes, n_images = numbered(part["group"].to_numpy())
        share = clustered_share(part["correct"].to_numpy(), codes, n_images=n_images)
        found.append(Bar(share.value, share.low, share.high, share.n, share.n_groups))
    return tuple(found)


def _families() -> dict[str, Sequence[str]]:
    """Kinds of signals that people use, in words → their predictors."""
    return {
        "attention maps": attention_signals(),
        "token confidence": ("token_confidence",),
        "self-consistency": ("self_consistency",),
        "the hidden-state probe": (LINEAR_BEST,),
    }


def _weaker(model: ModelEvidence, recommended: str | None) -> tuple[str, ...]:
    """Families of signals that are weak or uninformative, with the AUROC of the strongest."""
    found = []
    for family, names in _families().items():
        claims = {name: claim for name in names if (claim := claim_of(model, name)) is not None}
        judgement = judge(claims)
        if recommended in names or judgement.claim is None:
            continue
        if text := _less(judgement):
            found.append(f"{family}, {text}")
    return tuple(found)


def _less(judgement: Judgement) -> str:
    """Why a signal is not recommended, with its AUROC; empty if it is more than weak."""
    claim = judgement.claim
    assert claim is not None
    auroc = decimal(claim.number.value)
    if judgement.verdict is Verdict.YES:
        return f"weak ({auroc})" if size_of(claim.number.value) == "weak" else ""
    words = shortcoming(claim, judgement.verdict)
    could = smallest_detectable(claim.number) if words == "undecided" else ""
    return f"{words} ({'; '.join(filter(None, [auroc, could]))})"


def decision_table(decisions: Sequence[Decision], times: ItemTimes) -> Table:
    """The decision of every model, a column each.

    Args:
        decisions: of each model.
        times: what the stages took, where it is known.
    """
    fifths = [one.recommended.fifths if one.recommended else () for one in decisions]
    rows = [
        [name_cell("accuracy", "all answered"), *(_share(one.accuracy) for one in decisions)],
        [name_cell("signal to use"), *(_signal_cell(one) for one in decisions)],
        [name_cell("its AUROC", "within strata"), *(_auroc_cell(one) for one in decisions)],
        [name_cell("its cost", "beyond the answer"), *(_cost_cell(d, times) for d in decisions)],
        *(
            [
                name_cell(
                    f"accuracy of the {share}% most confident", "the others are not answered"
                ),
                *(_answered_cell(one, share) for one in decisions),
            ]
            for share in SHARES
        ),
        *(
            [
                name_cell(f"answered of each task, at {share}%", "and how many of these are right"),
                *(_by_task_cell(one, share) for one in decisions),
            ]
            for share in SHARES
            if any(len(_answered_of(one, share)) > 1 for one in decisions)
        ),
        [
            name_cell("accuracy by confidence", "fifths, the least confident first"),
            *(_fifths_cell(bars) for bars in fifths),
        ],
        [name_cell("less useful"), *(Cell("; ".join(d.weaker) or NONE) for d in decisions)],
    ]
    text_columns = range(1, len(decisions) + 1)
    return Table(["", *(one.model for one in decisions)], rows, text_columns=tuple(text_columns))


def _fifths_cell(bars: tuple[Bar, ...]) -> Cell:
    if not bars:
        return Cell(NONE, kind="muted")
    return Cell("", " · ".join(f"{decimal(100 * bar.value, 0)}%" for bar in bars), bars=bars)


def _share(number: ReportedEstimate | None) -> Cell:
    return estimate_cell(number, 1, scale=100, unit="%")


def _signal_cell(decision: Decision) -> Cell:
    if decision.recommended is None:
        return Cell(_none_in_words(decision), kind="muted")
    found = decision.recommended
    what = SIGNALS[found.predictor].description if found.predictor in SIGNALS else ""
    return Cell(predictor_label(found.predictor), what, kind="strong")


_NO_SIGNAL = {
    Verdict.TOO_FEW: f"undecided, under {MIN_IMAGES} images with right or with wrong answers",
    Verdict.UNDECIDED: "undecided, no signal was shown to tell right from wrong",
    Verdict.NOT_RUN: "not judged, no signal or probe was run",
    Verdict.NOT_CAPTURED: "not judged, no signal was captured",
}


def _is_scored(decision: Decision) -> bool:
    return decision.accuracy is not None and decision.accuracy.defined


def _none_in_words(decision: Decision) -> str:
    """Why there is no signal to use."""
    if not _is_scored(decision):
        return "not judged, no answer could be scored"
    return _NO_SIGNAL.get(decision.verdict, "none, no signal tells right from wrong")


def _auroc_cell(decision: Decision) -> Cell:
    found = decision.recommended
    if found is None:
        return Cell(NONE, kind="muted")
    cell = estimate_cell(found.auroc, 2)
    if found.best == found.predictor:
        return cell._replace(detail=f"{cell.detail}, the best")
    best = f"best: {predictor_label(found.best)}, {decimal(found.best_auroc.value)}"
    return cell._replace(detail=f"{cell.detail}; {best}")


def _cost_cell(decision: Decision, times: ItemTimes) -> Cell:
    """In words; forwards and milliseconds beside those of the answer in small print."""
    found = decision.recommended
    if found is None:
        return Cell(NONE, kind="muted")
    answer = times.get((decision.model, ANSWERING), math.nan)
    more = sum(times.get((decision.model, stage), math.nan) for stage in found.runs)
    parts = [f"{counted(found.forwards)} prefills and steps"] if found.runs else []
    if found.runs and math.isfinite(more):
        parts.append(f"{decimal(more, 1)} ms an item")
    if math.isfinite(answer):
        parts.append(f"the answer takes {decimal(answer, 1)} ms")
    return Cell(found.cost, "; ".join(parts))


def _answered_cell(decision: Decision, share: int) -> Cell:
    """Accuracy of the most confident items, with the threshold that picks them."""
    if decision.recommended is None:
        return Cell(NONE, kind="muted")
    number = {80: decision.at_80, 50: decision.at_50}[share]
    cell, threshold = _share(number), _threshold_in_words(decision.recommended, share)
    return cell._replace(detail=f"{cell.detail}; {threshold}") if threshold else cell


def _answered_of(decision: Decision, share: int) -> Mapping[str, Answered]:
    return decision.recommended.by_task.get(share, {}) if decision.recommended else {}


def _by_task_cell(decision: Decision, share: int) -> Cell:
    """Such as `existence 99% (86% right), counting none`: one threshold may leave out a task."""
    parts = [
        f"{task} {decimal(100 * one.share, 0)}% ({decimal(100 * one.accuracy, 0)}% right)"
        if one.share
        else f"{task} none"
        for task, one in _answered_of(decision, share).items()
    ]
    return Cell(", ".join(parts)) if parts else Cell(NONE, kind="muted")


def _threshold_in_words(found: Recommendation | None, share: int) -> str:
    """Such as `threshold: at least −0.633 nat, probability 0.53`; empty where there is none."""
    if found is None or share not in found.thresholds:
        return ""
    side = "at least" if found.rises else "at most"
    signal = SIGNALS.get(found.predictor)
    unit, is_log = (signal.unit, signal.is_log_probability) if signal else ("1", False)
    least = found.thresholds[share]
    text = f"threshold: {side} {decimal(least, 3)} {unit}".removesuffix(" 1")
    return f"{text}, probability {decimal(math.exp(least))}" if is_log else text


def decision_lines(study: str, decisions: Sequence[Decision]) -> list[str]:
    """The decision for a terminal: two lines a model."""
    lines = [f"Study {study}: which answers can be trusted?"]
    for one in decisions:
        found, accuracy = one.recommended, _plain_share(one.accuracy)
        if not _is_scored(one):
            lines.append(f"{one.model}: no answer could be scored, so no signal is judged.")
            continue
        if found is None:
            lines.append(f"{one.model}: {accuracy} right. Signal to use: {_none_in_words(one)}.")
            continue
        lines += [
            f"{one.model}: {accuracy} right. Signal to use: {predictor_label(found.predictor)} "
            f"(AUROC {decimal(found.auroc.value)}); it costs {found.cost}.",
            f"  Right among the 80% most confident: {_plain_answered(one, 80)}; among the 50%: "
            f"{_plain_answered(one, 50)}."
            + (f" Less useful: {'; '.join(one.weaker)}." if one.weaker else ""),
        ]
    return lines


def _plain_answered(decision: Decision, share: int) -> str:
    accuracy = _plain_share({80: decision.at_80, 50: decision.at_50}[share])
    threshold = _threshold_in_words(decision.recommended, share)
    none_of = [task for task, one in _answered_of(decision, share).items() if not one.share]
    if none_of:
        threshold += f"; no {' and no '.join(none_of)} question is among them"
    return f"{accuracy} ({threshold})" if threshold else accuracy


def _plain_share(number: ReportedEstimate | None) -> str:
    return f"{decimal(100 * number.value, 1)}%" if number is not None and number.defined else NONE

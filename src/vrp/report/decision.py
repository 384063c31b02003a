"""The decision that a study supports: which signal to trust for each model, and what it buys."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import ReportedEstimate, plain
from vrp.estimates.verdicts import Verdict, judge, size_of
from vrp.findings.evidence import ModelEvidence
from vrp.findings.guards import claim_of
from vrp.findings.recommendation import choose, cost_of
from vrp.probing.labels import LINEAR_BEST
from vrp.report.numbers import NONE, decimal
from vrp.report.tabular import Bar, Cell, Table, estimate_cell, name_cell
from vrp.signals.registry import SIGNALS, attention_signals
from vrp.stats.proportion import wilson
from vrp.study.results import ModelResults
from vrp.tables.estimates import POOLED
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

FIFTHS = 5
"""Groups of equal size in which accuracy is shown, from the least confident to the most."""


class Recommendation(NamedTuple):
    """The cheapest predictor that tells about as much as the best one."""

    predictor: str
    """Name of the predictor."""
    auroc: ReportedEstimate
    """Its AUROC within strata."""
    cost: str
    """What it costs beyond the answer, in words."""
    best: str
    """The predictor of the highest AUROC."""
    best_auroc: ReportedEstimate
    """That AUROC; the recommended one lies within its interval."""
    threshold: float
    """Value above which (or below, see `rises`) the most confident 80% of the items lie; NaN where
    there are no values."""
    rises: bool
    """Whether larger values mean more confidence."""
    fifths: tuple[Bar, ...]
    """Accuracy in fifths of the items, the least confident first; empty where it is not known."""


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
    """What tells less, or nothing, in words."""

    def as_json(self) -> dict[str, Any]:
        """Plain data for the summary."""
        found = self.recommended
        return {
            "signal": found.predictor if found else None,
            "auroc": found.auroc.as_json() if found else None,
            "cost": found.cost if found else None,
            "best_signal": found.best if found else None,
            "threshold_for_80": plain(found.threshold) if found else None,
            "larger_is_surer": found.rises if found else None,
            "accuracy_at_80": self.at_80.as_json() if self.at_80 else None,
            "accuracy_at_50": self.at_50.as_json() if self.at_50 else None,
            "fifths": [bar._asdict() for bar in found.fifths] if found else [],
            "tells_less": list(self.weaker),
        }


Values = Mapping[str, pl.DataFrame]
"""Predictor → `score` and `correct` of the items that have both."""


def read_values(model: ModelResults) -> Values:
    """Return the values of every signal, and the out-of-fold scores of every probe."""
    signals = model.table(signal_table())
    judged = signals.select("item_id", "correct").drop_nulls()
    found = {
        name: signals.select(score=name, correct="correct").drop_nulls().drop_nans()
        for name in SIGNALS
    }
    scores = model.table(PREDICTIONS).join(judged, on="item_id")
    for (name,), rows in scores.partition_by("probe", as_dict=True).items():
        found[str(name)] = rows.select("score", "correct").drop_nans()
    return found


def decide(model: ModelEvidence, values: Values) -> Decision:
    """Decide which signal to trust for a model (`choose`), and what that buys.

    Args:
        model: what the tables say.
        values: of each predictor.
    """
    choice = choose(model)
    accuracy = model.metric("model", "accuracy", POOLED)
    if choice is None:
        return Decision(model.name, accuracy, None, None, None, _weaker(model, None))
    name = choice.predictor
    rises = name not in SIGNALS or SIGNALS[name].reliable_when != "low"
    score, correct = _confidence(values.get(name), rises=rises)
    threshold = float(np.quantile(score, 0.2)) if len(score) else math.nan
    recommended = Recommendation(
        name, choice.auroc, cost_of(model, name).words, choice.best, choice.best_auroc,
        threshold if rises else -threshold, rises, _fifths(score, correct),
    )  # fmt: skip
    at_80, at_50 = (
        model.metric(name, f"accuracy_at_{share}", POOLED)
        or model.probe(name, f"accuracy_at_{share}", POOLED)
        for share in (80, 50)
    )
    return Decision(model.name, accuracy, recommended, at_80, at_50, _weaker(model, name))


def _confidence(
    values: pl.DataFrame | None, *, rises: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, larger for more confidence, and whether each answer is right."""
    if values is None:
        return np.zeros(0), np.zeros(0, dtype=bool)
    score = values["score"].to_numpy().astype(np.float64)
    return score if rises else -score, values["correct"].to_numpy().astype(bool)


def _fifths(score: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[Bar, ...]:
    if len(score) < FIFTHS:
        return ()
    order = np.argsort(score, kind="stable")
    found = []
    for part in np.array_split(correct[order], FIFTHS):
        share = wilson(int(part.sum()), len(part))
        found.append(Bar(share.value, share.low, share.high, len(part)))
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
    """Families of signals that tell little or nothing, with the AUROC of the strongest."""
    found = []
    for family, names in _families().items():
        claims = {name: claim for name in names if (claim := claim_of(model, name)) is not None}
        judgement = judge(claims)
        if recommended in names or judgement.claim is None:
            continue
        auroc = decimal(judgement.claim.number.value)
        size = size_of(judgement.claim.number.value)
        if judgement.verdict is Verdict.NO:
            found.append(f"{family}: no better than chance, or not beyond a guard ({auroc})")
        elif judgement.verdict is Verdict.UNDECIDED:
            found.append(f"{family}: not shown ({auroc})")
        elif size == "weak":
            found.append(f"{family}: weak ({auroc})")
    return tuple(found)


def decision_table(decisions: Sequence[Decision]) -> Table:
    """The decision of every model, a column each."""
    fifths = [one.recommended.fifths if one.recommended else () for one in decisions]
    rows = [
        [name_cell("accuracy, all answered"), *(_share(one.accuracy) for one in decisions)],
        [name_cell("rank its answers by"), *(_signal_cell(one) for one in decisions)],
        [name_cell("its AUROC, within strata"), *(_auroc_cell(one) for one in decisions)],
        [name_cell("it costs"), *(_cost_cell(one) for one in decisions)],
        [name_cell("accuracy, the surest 80% answered"), *(_share(one.at_80) for one in decisions)],
        [name_cell("accuracy, the surest 50% answered"), *(_share(one.at_50) for one in decisions)],
        [name_cell("answer where it is"), *(_threshold_cell(one) for one in decisions)],
        [
            name_cell("accuracy by fifths", "from least to most sure"),
            *(Cell("", bars=bars) for bars in fifths),
        ],
        [name_cell("tells less"), *(Cell("; ".join(one.weaker) or NONE) for one in decisions)],
    ]
    text_columns = range(1, len(decisions) + 1)
    return Table(["", *(one.model for one in decisions)], rows, text_columns=tuple(text_columns))


def _share(number: ReportedEstimate | None) -> Cell:
    return estimate_cell(number, 1, scale=100, unit="%")


def _signal_cell(decision: Decision) -> Cell:
    if decision.recommended is None:
        return Cell("nothing that was judged", kind="muted")
    found = decision.recommended
    return Cell(predictor_label(found.predictor), kind="strong")


def _auroc_cell(decision: Decision) -> Cell:
    found = decision.recommended
    if found is None:
        return Cell(NONE, kind="muted")
    cell = estimate_cell(found.auroc, 2)
    if found.best == found.predictor:
        return cell._replace(detail=f"{cell.detail}, the best")
    best = f"best: {predictor_label(found.best)}, {decimal(found.best_auroc.value)}"
    return cell._replace(detail=f"{cell.detail}; {best}")


def _cost_cell(decision: Decision) -> Cell:
    return Cell(decision.recommended.cost if decision.recommended else NONE)


def _threshold_cell(decision: Decision) -> Cell:
    found = decision.recommended
    if found is None or not math.isfinite(found.threshold):
        return Cell(NONE, kind="muted")
    side = "at least" if found.rises else "at most"
    return Cell(f"{side} {decimal(found.threshold, 3)}", "keeps 80% of these items")


def decision_lines(study: str, decisions: Sequence[Decision]) -> list[str]:
    """The decision for a terminal: at most three lines a model."""
    lines = [f"Study {study}: which answers can be trusted?"]
    for one in decisions:
        accuracy = _plain_share(one.accuracy)
        if one.recommended is None:
            lines.append(f"{one.model}: {accuracy} right; nothing tells right from wrong here.")
            continue
        found = one.recommended
        lines += [
            f"{one.model}: {accuracy} right. Rank its answers by "
            f"{predictor_label(found.predictor)} (AUROC {decimal(found.auroc.value)}; "
            f"cost: {found.cost}).",
            f"  The surest 80%: {_plain_share(one.at_80)} right; 50%: {_plain_share(one.at_50)}."
            + (f" Tells less: {'; '.join(one.weaker)}." if one.weaker else ""),
        ]
    return lines


def _plain_share(number: ReportedEstimate | None) -> str:
    return f"{decimal(100 * number.value, 1)}%" if number is not None and number.defined else NONE

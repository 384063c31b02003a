"""What a file of confidences shows: as text, as JSON, and as tables of numbers."""

import json
import math
from typing import Any

import polars as pl

from vrp import __version__
from vrp.data.file_digest import file_sha256
from vrp.estimates.judged_confidences import SEED, Comparison, JudgedConfidences, ScoreJudgement
from vrp.estimates.reported import plain
from vrp.estimates.verdicts import Outcome, Standing, Verdict, differs_noticeably, size_of, standing
from vrp.plots.judged_confidences import curves
from vrp.report.numbers import NONE, decimal, listed, percent, thousands, with_interval
from vrp.stats.auroc import CONSTANT
from vrp.stats.calibrators import N_FOLDS
from vrp.stats.risk_control import RiskControl
from vrp.tables.estimates import POOLED
from vrp.text_table import aligned

_MOST_LINES = 5
"""Scores that the terminal lists."""


def as_text(found: JudgedConfidences) -> str:
    """Return the judgement for a terminal, the answer first, in at most fifteen lines."""
    best = found.best
    lines = [
        _lead(found), verdict_sentence(found, best), threshold_sentence(found, best), "",
        _score_table(found),
    ]  # fmt: skip
    if rival := _rival(found):
        lines.append(comparison_sentence(rival, found.margin))
    lines += left_out(found)
    return "\n".join(lines)


def _lead(found: JudgedConfidences) -> str:
    items = found.items
    strata = len(items.scopes) - 1
    return (
        f"{items.file.path}: {thousands(len(items.file.ids))} answers on "
        f"{thousands(items.n_images)} images{f' in {strata} strata' if strata else ''}, "
        f"{percent(found.accuracy)} right."
    )


def verdict_sentence(found: JudgedConfidences, score: ScoreJudgement) -> str:
    """Say whether a score tells right answers from wrong ones, how well, or why not."""
    number, verdict = score.auroc, score.judgement.verdict
    strata = " within strata" if len(found.items.scopes) > 1 else ""
    auroc = f"AUROC {with_interval(number)}{strata}"
    if verdict is Verdict.YES and number.value < 0.5:
        return (
            f"{score.name} is higher for wrong answers ({auroc}): reverse it with "
            f"--low-is-sure {score.name}."
        )
    if verdict is Verdict.YES:
        return (
            f"{score.name} tells right answers from wrong ones: {auroc}, {size_of(number.value)}."
        )
    if verdict is Verdict.TOO_FEW:
        pooled = found.numbers[score.name, POOLED, "auroc"]
        why = number.note if pooled.defined else pooled.note
        return f"Whether {score.name} tells right answers from wrong ones is unknown: {why}."
    if verdict is Verdict.UNDECIDED:
        why = f"the smallest detectable AUROC is {decimal(0.5 + number.resolvable)}"
        if differs_noticeably(number):
            open_ones = [*_guards(score, Outcome.FAILS), *_guards(score, Outcome.UNSETTLED)]
            why = f"it does not pass the guard {listed(open_ones)}"
        elif CONSTANT in number.note:
            why = f"{CONSTANT}, on too few answers to show that it tells nothing"
        whether = f"Whether {score.name} tells right answers from wrong ones"
        return f"{whether} is undecided ({auroc}); {why}."
    why = f"within ±{found.margin:g} of chance"
    if CONSTANT in number.note:
        why = CONSTANT
    elif standing(number, null=0.5) is not Standing.EQUIVALENT:
        why = f"failed guard: {listed(_guards(score, Outcome.FAILS))}"
    return f"{score.name} does not tell right answers from wrong ones ({auroc}; {why})."


def _guards(score: ScoreJudgement, outcome: Outcome) -> list[str]:
    claim = score.judgement.claim
    return [guard.name for guard in claim.guards if guard.outcome is outcome] if claim else []


def threshold_sentence(found: JudgedConfidences, score: ScoreJudgement) -> str:
    """State the threshold at which few accepted answers are wrong, for each alpha."""
    accepting = [control for control in score.thresholds if control.accepted]
    nothing = [_share(control.alpha) for control in score.thresholds if not control.accepted]
    sure = f"with {_share(1 - found.delta)} confidence"
    if len(found.scores) > 1:
        sure += f" for all {len(found.scores)} scores together"
    if not accepting:
        loosest = max(score.thresholds, key=lambda control: control.alpha)
        shares = " or ".join([", ".join(nothing[:-1]), nothing[-1]] if nothing[1:] else nothing)
        return (
            f"No threshold of {score.name} keeps the share of wrong answers at {shares}, {sure}: "
            f"{loosest.reason}."
        )
    places = "; ".join(
        f"{limit_of(found, score, control)} for at most {_share(control.alpha)} wrong "
        f"({_share(control.accepted.share, 1)} of answers)"
        for control in accepting
        if control.accepted
    )
    missing = f"; no threshold for {listed(nothing)}" if nothing else ""
    return f"Accept answers if {score.name} is {places}{missing}; each {sure}."


def limit_of(found: JudgedConfidences, score: ScoreJudgement, control: RiskControl) -> str:
    """Where a score accepts an answer, on the file's own scale; "nowhere" where it does not."""
    if control.accepted is None:
        return "nowhere"
    value = threshold_in_file(found, score, control)
    turned = score.name in found.items.file.low_is_sure
    return f"{'at most' if turned else 'at least'} {value:.4g}"


def threshold_in_file(
    found: JudgedConfidences, score: ScoreJudgement, control: RiskControl
) -> float:
    """Threshold on the file's own scale; NaN where nothing is accepted."""
    if control.accepted is None:
        return math.nan
    turned = score.name in found.items.file.low_is_sure
    return -control.accepted.threshold if turned else control.accepted.threshold


def _share(value: float, digits: int | None = None) -> str:
    return f"{100 * value:g}%" if digits is None else f"{100 * value:.{digits}f}%"


def auroc_heading(found: JudgedConfidences) -> str:
    """Heading of the column with the AUROC that decides."""
    return "AUROC, within strata" if len(found.items.scopes) > 1 else "AUROC"


def _score_table(found: JudgedConfidences) -> str:
    head = [
        "score",
        auroc_heading(found),
        "size",
        "verdict",
        "80% answered",
        "AURC",
        "ECE",
        "calibrated",
    ]
    rows = [head]
    for one in found.by_auroc[:_MOST_LINES]:
        at_80 = one.selective["accuracy_at_80"]
        rows.append([
            one.name, with_interval(one.auroc, 3),
            size_of(one.auroc.value) if one.auroc.defined else NONE, str(one.judgement.verdict),
            f"{decimal(100 * at_80.value, 1)}% right", decimal(one.curve.aurc, 3),
            decimal(one.calibration.ece if one.calibration else math.nan, 3),
            decimal(one.calibrated.ece, 3),
        ])  # fmt: skip
    return aligned(rows, n_text=4)


def _rival(found: JudgedConfidences) -> Comparison | None:
    """Comparison of the best score with the second one; None where there is none."""
    names = {score.name for score in found.by_auroc[:2]}
    pairs = (pair for pair in found.comparisons if {pair.first, pair.second} == names)
    return next(pairs, None)


def comparison_sentence(pair: Comparison, margin: float) -> str:
    """Say which of two scores has the higher AUROC, or that they lie within a margin."""
    gap = pair.gap
    words = {
        Standing.ABOVE: f"{pair.first} is better",
        Standing.BELOW: f"{pair.second} is better",
        Standing.EQUIVALENT: f"equivalent within ±{margin:g}",
    }
    said = words.get(
        standing(gap, null=0.0), f"undecided, smallest detectable {decimal(gap.resolvable, 3)}"
    )
    return (
        f"{pair.first} minus {pair.second}: AUROC {with_interval(gap, 3, signed=True)} on the same "
        f"{thousands(gap.n)} answers, {said}."
    )


def left_out(found: JudgedConfidences) -> list[str]:
    """Lines that say what is missing; none where nothing is."""
    file, lines = found.items.file, []
    missing = [
        f"{thousands(score.n_missing)} without a finite {score.name}"
        for score in found.scores
        if score.n_missing
    ]
    if file.n_unlabelled:
        missing.append(f"{thousands(file.n_unlabelled)} without a label")
    if missing:
        lines.append(f"Answers excluded or ranked last: {listed(missing)}.")
    if found.too_few:
        rare = listed([f"{name} ({n})" for name, n in found.too_few.items()])
        lines.append(f"Not judged, since fewer than {N_FOLDS} images have a number: {rare}.")
    if "group" not in file.columns:
        lines.append("No column identifies the images: every answer counts as independent.")
    hidden = len(found.scores) - _MOST_LINES
    return [*lines, f"{hidden} more scores are in the files."] if hidden > 0 else lines


def as_json(found: JudgedConfidences) -> str:
    """Return all numbers; thresholds and calibrators to the last digit."""
    items = found.items
    content = {
        "file": str(items.file.path),
        "sha256": file_sha256(items.file.path),
        "vrp": __version__,
        "columns": dict(items.file.columns),
        "n_items": len(items.file.ids),
        "n_images": items.n_images,
        "n_unlabelled": items.file.n_unlabelled,
        "accuracy": found.accuracy.as_json(),
        "best": found.best.name,
        "delta": found.delta,
        "auroc_margin": found.margin,
        "seed": SEED,
        "scores": [_score_json(found, score) for score in found.scores],
        "not_judged": [{"name": name, "n_images": n} for name, n in found.too_few.items()],
        "comparisons": [
            {"first": pair.first, "second": pair.second, "gap": pair.gap.as_json()}
            for pair in found.comparisons
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _score_json(found: JudgedConfidences, score: ScoreJudgement) -> dict[str, Any]:
    claim = score.judgement.claim
    return {
        "name": score.name,
        "low_is_sure": score.name in found.items.file.low_is_sure,
        "n_missing": score.n_missing,
        "verdict": str(score.judgement.verdict),
        "size": size_of(score.auroc.value) if score.auroc.defined else None,
        "auroc": score.auroc.as_json(),
        "guards": {
            guard.name: {
                "outcome": str(guard.outcome),
                "number": guard.number.as_json() if guard.number else None,
            }
            for guard in (claim.guards if claim else ())
        },
        **{metric: number.as_json() for metric, number in score.selective.items()},
        "aurc": plain(score.curve.aurc),
        "ece": plain(score.calibration.ece) if score.calibration else None,
        "ece_calibrated": plain(score.calibrated.ece),
        # Of the value in the file, turned where a smaller one means surer.
        "calibrator": score.calibrator.calibrator.as_json(),
        "calibrator_reason": score.calibrator.reason,
        "brier_calibrated": plain(score.calibrator.brier),
        "thresholds": [_threshold_row(found, score, control) for control in score.thresholds],
    }


def _threshold_row(
    found: JudgedConfidences, score: ScoreJudgement, control: RiskControl
) -> dict[str, Any]:
    accepted = control.accepted
    return {
        "score": score.name,
        "alpha": control.alpha,
        "delta": control.delta,
        "accept": limit_of(found, score, control).rpartition(" ")[0] or "nothing",
        "threshold": threshold_in_file(found, score, control) if accepted else None,
        "share_accepted": accepted.share if accepted else 0.0,
        "n_accepted": accepted.n if accepted else 0,
        "n_wrong": accepted.n_wrong if accepted else 0,
        "risk": accepted.risk if accepted else None,
        "risk_bound": accepted.bound if accepted else None,
        "test": control.test,
        "n_images": control.n,
        "n_calibration": control.n_items,
        "reason": control.reason,
    }


def as_tables(found: JudgedConfidences) -> dict[str, pl.DataFrame]:
    """Name of a file → its rows: estimates, thresholds, comparisons, and the figures' numbers."""
    every = [(found, score, control) for score in found.scores for control in score.thresholds]
    return {
        "estimates": pl.DataFrame(found.rows, strict=False).drop("layer"),
        "thresholds": pl.DataFrame([_threshold_row(*one) for one in every]),
        "comparisons": pl.DataFrame(
            [
                {"first": pair.first, "second": pair.second, "first_auroc": pair.first_auroc,
                 "second_auroc": pair.second_auroc, **pair.gap._asdict()}
                for pair in found.comparisons
            ]
        ),
        **curves(found),
    }  # fmt: skip

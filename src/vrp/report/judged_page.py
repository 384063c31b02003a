"""The page about a file of confidences: one HTML file that needs nothing but itself."""

from collections.abc import Sequence

from vrp.estimates.judged_confidences import JudgedConfidences, ScoreJudgement
from vrp.estimates.verdicts import Standing, Verdict, size_of, standing
from vrp.report.claim_words import guard_cell
from vrp.report.figures import Figure
from vrp.report.judged_confidences import (
    auroc_heading,
    comparison_sentence,
    left_out,
    limit_of,
    threshold_sentence,
    verdict_sentence,
)
from vrp.report.numbers import NONE, decimal, p_value, percent, thousands
from vrp.report.page_templates import page_environment
from vrp.report.tabular import Cell, Table, estimate_cell, name_cell, whisker_cell, without_repeats
from vrp.stats.calibrators import Platt
from vrp.stats.risk_control import TESTS
from vrp.tables.estimates import POOLED

SECTIONS = (
    ("answer", "The answer"),
    ("thresholds", "Thresholds"),
    ("ranking", "Ranking"),
    ("calibration", "Calibration"),
    ("comparisons", "Pairs of scores"),
    ("strata", "By stratum"),
    ("guards", "Guards"),
    ("reading", "How to read this"),
    ("run", "What was judged"),
)

"""Anchor and heading of every section, in order."""


def render_page(judged: JudgedConfidences, figures: Sequence[Figure]) -> str:
    """The whole page; every text that comes from the file is escaped."""
    best = judged.best
    return page_environment().get_template("judge.html.j2").render(
        title=f"Confidences in {judged.items.file.path.name}",
        sections=SECTIONS,
        lead=_lead(judged),
        verdict=best.judgement.verdict,
        best=best.name,
        sentences=[verdict_sentence(judged, best), threshold_sentence(judged, best)],
        others=[verdict_sentence(judged, one) for one in judged.by_auroc[1:]],
        compared=[comparison_sentence(pair, judged.margin) for pair in judged.comparisons],
        left_out=left_out(judged),
        glance=_glance_table(judged),
        thresholds=_thresholds_table(judged),
        selective=_selective_table(judged),
        calibrations=_calibration_table(judged),
        comparisons=_comparisons_table(judged),
        strata=_strata_table(judged),
        guards=_guards_table(judged),
        figures={figure.name: figure for figure in figures},
        confidence=f"{100 * (1 - judged.delta):g}%",
        threshold_test=TESTS[best.thresholds[0].test],
        margin=judged.margin,
        columns=dict(judged.items.file.columns),
        file=judged.items.file,
    )  # fmt: skip


def _lead(judged: JudgedConfidences) -> str:
    items = judged.items
    strata = f" in {len(items.scopes) - 1} strata" if len(items.scopes) > 1 else ""
    return (
        f"{thousands(len(items.file.ids))} answers on {thousands(items.n_images)} images{strata}, "
        f"{percent(judged.accuracy)} right."
    )


def _glance_table(judged: JudgedConfidences) -> Table:
    rows = [
        [
            name_cell(one.name),
            estimate_cell(one.auroc),
            whisker_cell(one.auroc, low=0.3, high=1.0, null=0.5),
            Cell(size_of(one.auroc.value) if one.auroc.defined else NONE),
            _verdict_cell(one),
            Cell(p_value(one.auroc.p_adjusted)),
            estimate_cell(judged.numbers[one.name, POOLED, "auroc"]),
            Cell(thousands(one.n_missing) if one.n_missing else NONE),
        ]
        for one in judged.by_auroc
    ]
    columns = [
        "score", auroc_heading(judged), "", "size", "verdict", "p (Holm)", "pooled", "missing",
    ]  # fmt: skip
    return Table(columns, rows, text_columns=(2,))


def _verdict_cell(score: ScoreJudgement) -> Cell:
    verdict = score.judgement.verdict
    kind = {Verdict.YES: "good", Verdict.NO: "bad"}.get(verdict, "")
    return Cell(str(verdict), kind=kind)


def _thresholds_table(judged: JudgedConfidences) -> Table:
    rows = []
    for score in judged.by_auroc:
        for control in score.thresholds:
            found = control.accepted or control.first
            qualifier = "" if control.accepted else "of the most confident"
            rows.append([
                name_cell(score.name), Cell(f"{100 * control.alpha:g}%"),
                Cell(limit_of(judged, score, control), "" if found else control.reason),
                Cell(f"{100 * found.share:.1f}%" if found and not qualifier else NONE),
                Cell(f"{thousands(found.n_wrong)} of {thousands(found.n)}", qualifier)
                if found
                else Cell(NONE),
                Cell(f"{100 * found.risk:.1f}%" if found else NONE),
                Cell(f"{100 * found.bound:.1f}%" if found else NONE),
                Cell(thousands(control.n_items)),
            ])  # fmt: skip
    columns = [
        "score", "at most wrong", "accept if it is", "answers accepted", "wrong among them",
        "risk", "upper bound", "calibration items",
    ]  # fmt: skip
    return Table(columns, without_repeats(rows), text_columns=(2,))


def _selective_table(judged: JudgedConfidences) -> Table:
    metrics = ("accuracy_at_90", "accuracy_at_80", "accuracy_at_50")
    rows = [
        [
            name_cell(one.name),
            *(estimate_cell(one.selective[name], 1, scale=100, unit="%") for name in metrics),
            estimate_cell(one.selective["prr"]),
            Cell(decimal(one.curve.aurc, 3)),
        ]
        for one in judged.by_auroc
    ]
    columns = [
        "ranked by", "90% answered", "80%", "50%", "rejection ratio (PRR)", "AURC",
    ]  # fmt: skip
    return Table(columns, rows)


def _calibration_table(judged: JudgedConfidences) -> Table:
    rows = [
        [
            name_cell(one.name),
            Cell(decimal(one.calibration.ece, 3) if one.calibration else "no probability"),
            Cell(decimal(one.calibrated.ece, 3)),
            Cell(decimal(min(one.calibrator.brier.values()), 3)),
            Cell(_map_in_words(one, judged), one.calibrator.reason),
        ]
        for one in judged.by_auroc
    ]
    columns = ["score", "ECE, as given", "ECE, calibrated", "Brier score, calibrated", "map"]
    return Table(columns, rows, text_columns=(4,))


def _map_in_words(score: ScoreJudgement, judged: JudgedConfidences) -> str:
    """The map from a value in the file to a probability."""
    found = score.calibrator.calibrator
    if not isinstance(found, Platt):
        return f"isotonic, {thousands(len(found.scores))} knots"
    turned = score.name in judged.items.file.low_is_sure
    slope = decimal(-found.slope if turned else found.slope, 3)
    what = "log-odds" if found.log_odds else "score"
    sign, size = ("−" if found.intercept < 0 else "+"), decimal(abs(found.intercept), 3)
    return f"sigmoid of {slope} × {what} {sign} {size}"


def _comparisons_table(judged: JudgedConfidences) -> Table:
    words = {
        Standing.ABOVE: "the first is better", Standing.BELOW: "the second is better",
        Standing.EQUIVALENT: "equivalent", Standing.UNSETTLED: "undecided",
    }  # fmt: skip
    rows = [
        [
            name_cell(pair.first), Cell(pair.second),
            Cell(decimal(pair.first_auroc, 3)), Cell(decimal(pair.second_auroc, 3)),
            estimate_cell(pair.gap, signed=True), Cell(p_value(pair.gap.p_adjusted)),
            Cell(decimal(pair.gap.resolvable, 3)),
            Cell(words.get(standing(pair.gap, null=0.0), NONE)),
        ]
        for pair in judged.comparisons
    ]  # fmt: skip
    columns = [
        "first", "second", "AUROC of the first", "of the second", "difference", "p (Holm)",
        "detectable", "verdict",
    ]  # fmt: skip
    return Table(columns, rows, text_columns=(1,))


def _strata_table(judged: JudgedConfidences) -> Table:
    scopes = [scope for scope in judged.items.scopes if scope != POOLED]
    rows = [
        [
            name_cell(scope),
            estimate_cell(judged.numbers["model", scope, "accuracy"], 1, scale=100, unit="%"),
            *(estimate_cell(judged.numbers[one.name, scope, "auroc"]) for one in judged.by_auroc),
        ]
        for scope in scopes
    ]
    columns = ["stratum", "right", *(f"AUROC of {one.name}" for one in judged.by_auroc)]
    return Table(columns, rows)


def _guards_table(judged: JudgedConfidences) -> Table:
    rows = []
    for one in judged.by_auroc:
        claim = one.judgement.claim
        for guard in claim.guards if claim else ():
            rows.append([
                name_cell(one.name), Cell(guard.name, guard.measure),
                guard_cell(guard), Cell(str(guard.outcome)),
            ])  # fmt: skip
    return Table(
        ["score", "guard", "estimate", "outcome"], without_repeats(rows), text_columns=(1,)
    )

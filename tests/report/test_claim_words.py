"""The verdict that stands beside each signal and probe."""

import math

import pytest

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.claim_words import verdict_cell
from vrp.report.evidence_tables import signals_table


def number(value, half, p=0.001, **more):
    return ReportedEstimate(value, value - half, value + half, p, 1.0, 1.0, **more)


TELLS, WEAKLY = number(0.72, 0.03), number(0.58, 0.02)
NOTHING = ReportedEstimate(0.51, 0.48, 0.54, 0.8, 0.001, 0.001)
OPEN = number(0.54, 0.09, p=0.6, resolvable=0.11)
FEW = ReportedEstimate(math.nan, note="left out of the average: a (too few wrong answers: 3)")


def model(found, within):
    name = "token_confidence"
    return ModelEvidence(
        name="m",
        metrics={
            (name, "auroc", "within_strata", -1): found,
            (name, "auroc", "existence", -1): found,
            (name, "auroc", "within_answers", -1): within,
        },
        tasks=("existence",),
        beyond_baselines={
            (name, baseline): number(0.1, 0.02) for baseline in ("question_only", "answer_only")
        },
    )


@pytest.mark.parametrize(
    ("found", "within", "text", "detail"),
    [
        (TELLS, TELLS, "yes, moderate", ""),
        (WEAKLY, WEAKLY, "yes, weak", ""),
        (WEAKLY, NOTHING, "fails the guard within one answer", ""),
        (WEAKLY._replace(resolvable=0.1), OPEN, "undecided by the guard within one answer", ""),
        (NOTHING, NOTHING, "no better than chance", ""),
        (OPEN, OPEN, "undecided", "detectable from 0.61"),
        # Equivalent to chance on its own, and not beside the others of the table.
        (NOTHING._replace(p_equivalence_adjusted=0.2), NOTHING, "undecided", ""),
        (FEW, FEW, "", ""),
    ],
)
def test_the_verdict_on_one_signal(found, within, text, detail):
    cell = verdict_cell(model(found, within), "token_confidence")
    assert cell.text == text
    assert cell.detail == detail


def test_it_stands_in_the_table_of_signals():
    table = signals_table(model(TELLS, TELLS))
    [row] = table.rows
    assert row[table.columns.index("verdict")].text == "yes, moderate"

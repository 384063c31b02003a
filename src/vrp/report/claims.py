"""The papers' claims as a table: what they found, what this study finds, and the verdict."""

from collections.abc import Sequence

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.claims import CLAIMS, JudgedClaim, Replication, judged_claims
from vrp.findings.evidence import ModelEvidence
from vrp.findings.published_numbers import CHECKPOINTS
from vrp.report.numbers import decimal
from vrp.report.tabular import Cell, Table, estimate_cell, name_cell, without_repeats

_KINDS = {
    Replication.REPRODUCED: "good",
    Replication.NOT_REPRODUCED: "bad",
    Replication.NOT_TESTABLE: "muted",
    Replication.NOT_RUN: "muted",
}


def claims_table(models: Sequence[ModelEvidence]) -> Table:
    """Every claim about every model of a family that the papers ran."""
    found = [(one, model) for model in models for one in judged_claims(model)]
    order = [claim.key for claim in CLAIMS]
    rows = [_row(*pair) for pair in sorted(found, key=lambda pair: order.index(pair[0].claim.key))]
    columns = ["claim of the papers", "model", "published", "ours", "verdict", ""]
    return Table(columns, without_repeats(rows), text_columns=(1, 4, 5))


def _row(one: JudgedClaim, model: ModelEvidence) -> list[Cell]:
    claim = one.claim
    digits, unit = (2, "") if claim.is_auroc else (1, " pp")
    return [
        name_cell(claim.text), Cell(model.name),
        Cell(one.published.text, CHECKPOINTS[model.family], "published"),
        estimate_cell(one.ours, digits, signed=not claim.is_auroc, unit=unit),
        Cell(str(one.verdict), _why(one.verdict, model, one.ours), _KINDS.get(one.verdict, "")),
        Cell("more", link=f"#{claim.anchor}"),
    ]  # fmt: skip


def _why(verdict: Replication, model: ModelEvidence, number: ReportedEstimate | None) -> str:
    if verdict is Replication.NOT_TESTABLE and model.embedded:
        return "embedded model"
    if verdict is Replication.UNDECIDED and number is not None and number.resolvable < 100:
        return f"detectable from {decimal(number.resolvable)}"
    return ""

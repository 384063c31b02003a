"""The papers' claims as a table: what they found, what this study finds, and the verdict."""

from collections.abc import Sequence

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.claims import CLAIMS, Replication, replication
from vrp.findings.evidence import ModelEvidence
from vrp.findings.published_numbers import CHECKPOINTS, published
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
    rows = []
    for claim in CLAIMS:
        for model in models:
            found = published(claim.key, model.family)
            if found is None:
                continue
            number, verdict = claim.ours(model), replication(claim, model)
            digits, unit = (2, "") if claim.is_auroc else (1, " pp")
            ours = estimate_cell(number, digits, signed=not claim.is_auroc, unit=unit)
            rows.append([
                name_cell(claim.text), Cell(model.name),
                Cell(found.text, CHECKPOINTS[model.family], "published"), ours,
                Cell(str(verdict), _why(verdict, model, number), _KINDS.get(verdict, "")),
                Cell("more", link=f"#{claim.anchor}"),
            ])  # fmt: skip
    columns = ["claim of the papers", "model", "published", "ours", "verdict", ""]
    return Table(columns, without_repeats(rows), text_columns=(1, 4, 5))


def _why(verdict: Replication, model: ModelEvidence, number: ReportedEstimate | None) -> str:
    if verdict is Replication.NOT_TESTABLE and model.embedded:
        return "embedded model"
    if verdict is Replication.UNDECIDED and number is not None and number.resolvable < 100:
        return f"could find {decimal(number.resolvable)}"
    return ""

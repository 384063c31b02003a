"""The study's results as the report looks them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from vrp.config.margins import EquivalenceMargins
from vrp.errors import InputError
from vrp.estimates.reported import Effect
from vrp.findings.evidence import BetweenModels, ModelEvidence, model_evidence
from vrp.study.results import StudyResults
from vrp.study.table_origins import rows_digest
from vrp.tables.answers import ANSWERS
from vrp.tables.effects import EFFECTS
from vrp.tables.items import ITEMS
from vrp.tables.sealed_json import read_sealed_json


@dataclass(frozen=True)
class StudyEvidence:
    """Results of the study."""

    study: str
    items: pl.DataFrame
    """Rows of `items.parquet`."""
    models: tuple[ModelEvidence, ...]
    """Models in the order in which their tables were given."""
    sampling: tuple[Mapping[str, Any], ...]
    """Rows of the sampling report."""
    data: Mapping[str, Any]
    """The data manifest."""
    margins: EquivalenceMargins
    """Margins of the study's equivalence tests."""
    between_models: BetweenModels
    """How far the interventions' effects on two models differ."""
    origins: tuple[Mapping[str, str], ...]
    """Provenance of the tables read, one for each stage and model."""
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Model → stages that should have run and have left nothing; by an empty name, of the study."""

    @property
    def unlabelled(self) -> bool:
        """Whether no item has a reference answer, so that no answer is right or wrong."""
        return self.items["reference"].null_count() == len(self.items)


def gather_evidence(
    results: StudyResults,
    *,
    study: str,
    data_manifest: Path,
    sampling: Path,
    missing: Mapping[str, Sequence[str]] | None = None,
) -> StudyEvidence:
    """Read every table that the report needs.

    Args:
        results: the tables.
        study: name of the study.
        data_manifest: what the data are (JSON).
        sampling: the sampling report (JSON).
        missing: model → stages that have left nothing, where the study is not whole.

    Raises:
        InputError: a file is missing or malformed, or a model has no answers.
    """
    if not results.models:
        raise InputError("report: no answers were given; run the extract stage")
    results.require(ANSWERS)
    return StudyEvidence(
        study=study,
        items=results.table(ITEMS),
        models=tuple(model_evidence(model, results) for model in results.models),
        sampling=_sampled(sampling, *results.paths(ITEMS)),
        data=read_sealed_json(data_manifest, made_by="fetch-data"),
        margins=results.margins,
        between_models={
            (row["model"], row["intervention"], row["condition"]): Effect.from_row(row)
            for row in results.table(EFFECTS).iter_rows(named=True)
            if " - " in row["model"]  # which no model's name has
        },
        missing=missing or {},
        origins=results.origins,
    )


def _sampled(report: Path, items: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of the sampling report, which must be of these items."""
    found = read_sealed_json(report, made_by="sample")
    if found.get("items") != rows_digest(items):
        raise InputError(f"{report}: is not of the items in {items}; run `vrp sample` again")
    return tuple(found["splits"])

"""Write the study's report: one HTML page and its numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from vrp.config.data import DataConfig
from vrp.config.margins import Margins
from vrp.config.report import ReportConfig
from vrp.interventions.conditions import StudyConditions
from vrp.report.answer import four_answers
from vrp.report.evidence import gather_evidence
from vrp.report.figures import read_figures
from vrp.report.overlays import overlays
from vrp.report.page import PageInputs, render_page
from vrp.report.pooled import pooled_over_models
from vrp.report.summary import study_summary
from vrp.study.results import open_results
from vrp.tables.attention import ATTENTION
from vrp.tables.files import write_text
from vrp.tables.signals import signal_table


def run(
    *,
    study: str,
    data: DataConfig,
    report: ReportConfig,
    conditions: StudyConditions,
    margins: Margins,
    data_manifest: Path,
    items: Path,
    sampling: Path,
    effects: Path,
    tables: Mapping[str, Sequence[Path]],
    figures: Sequence[Path],
    summary: Path,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Read the tables of all models; write `summary.json`, then `report.html`.

    Args:
        study: name of the study.
        data: where the images are (for the overlays).
        report: the `report` section.
        conditions: the study's conditions: their order, labels and controls.
        margins: what counts as no effect.
        data_manifest: what the data are (JSON).
        items: `items.parquet`.
        sampling: the sampling report (JSON).
        effects: `effects.parquet`.
        tables: table name → its files, of all models; the files say which model they are of.
        figures: SVG files to embed, in this order.
        summary: JSON file to write.
        output: HTML file to write.
        provenance: of this run; printed on the page.

    Raises:
        InputError: a table, figure or manifest is missing or malformed; nothing is written then.
    """
    results = open_results(
        tables, conditions=conditions, margins=margins, items=items, effects=effects
    )
    evidence = gather_evidence(results, study=study, data_manifest=data_manifest, sampling=sampling)
    answers = four_answers(evidence.models)
    pooled = pooled_over_models({m.name: m.table(signal_table()) for m in results.models})
    shown = {
        model.name: overlays(
            model, of_model.paths(ATTENTION), folder=Path(data.folder), count=report.overlays
        )
        for model, of_model in zip(evidence.models, results.models, strict=True)
    }
    page = render_page(
        PageInputs(
            report.title, evidence, answers, pooled, read_figures(figures), shown, provenance
        )
    )
    numbers = study_summary(evidence, answers, pooled, provenance=provenance)
    write_text(summary, json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(output, page)

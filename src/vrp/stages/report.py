"""Write the study's report: one HTML page and its numbers as JSON."""

import json
from pathlib import Path

from vrp.report.conclusions import four_conclusions
from vrp.report.costs import item_times
from vrp.report.decision import decide, read_values
from vrp.report.evidence import gather_evidence
from vrp.report.figures import Link, link_to, read_figures
from vrp.report.overlays import overlays
from vrp.report.page import render_page
from vrp.report.pooled import pooled_over_models
from vrp.report.signal_values import signal_values_table
from vrp.report.summary import study_summary
from vrp.study.context import StageContext
from vrp.study.results import read_results
from vrp.tables.atomic_files import write_text
from vrp.tables.attention import ATTENTION
from vrp.tables.signals import signal_table


def _table_links(context: StageContext) -> dict[str, list[Link]]:
    """Table → links to its files, of all models, as the page shows them."""
    page = context.output_path("report")
    return {name: [link_to(path, page) for path in paths] for name, paths in context.inputs.items()}


def _has_explorer(context: StageContext) -> bool:
    """Whether the explorer is there, or will be once the workflow has run."""
    beside = context.output_path("report").with_name("explorer.html")
    return context.study.explorer.enabled and (not context.missing or beside.is_file())


def run(context: StageContext) -> None:
    """Read the tables of all models; write `summary.json`, then `report.html`.

    Raises:
        InputError: a table, figure or manifest is missing or malformed; nothing is written then.
    """
    report, provenance = context.study.report, context.provenance
    results = read_results(context)
    evidence = gather_evidence(
        results,
        study=context.study.study,
        data_manifest=context.input_path("data"),
        sampling=context.input_path("sampling"),
        missing=context.missing,
    )
    judged = not evidence.unlabelled
    conclusions = four_conclusions(evidence.models, evidence.between_models) if judged else []
    pooled = pooled_over_models({m.name: m.table(signal_table()) for m in results.models})
    shown = {
        model.name: overlays(
            model,
            of_model.paths(ATTENTION),
            folder=Path(context.study.data.folder),
            count=report.overlays,
        )
        for model, of_model in zip(evidence.models, results.models, strict=True)
    }
    figures = read_figures(context.input_paths("figures"), context.output_path("report"))
    decisions = [
        decide(model, read_values(of_model))
        for model, of_model in zip(evidence.models, results.models, strict=True)
    ]
    page = render_page(
        report.title, evidence, decisions, conclusions, pooled, figures, shown,
        None if judged else signal_values_table(results.models),
        item_times(evidence.models, context.benchmarks), _table_links(context), provenance,
        has_explorer=_has_explorer(context),
    )  # fmt: skip
    numbers = study_summary(evidence, decisions, conclusions, pooled, provenance=provenance)
    write_text(
        context.output_path("summary"),
        json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    )
    write_text(context.output_path("report"), page)

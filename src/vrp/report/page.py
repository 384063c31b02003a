"""The page: one HTML file that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vrp.estimates.reported import ReportedEstimate
from vrp.report.accounting import (
    dropped_table,
    models_table,
    prompts_table,
    provenance_table,
    sampling_table,
    splits_table,
    versions,
)
from vrp.report.answer_tables import (
    answers_table,
    rates_table,
    split_rates_table,
    vqa_rules_table,
)
from vrp.report.claims import claims_table
from vrp.report.comparison_with_papers import compared_pooled, compared_with_published
from vrp.report.conclusions import Conclusion
from vrp.report.consistency_table import sampled_against_exact
from vrp.report.costs import ItemTimes, costs_table
from vrp.report.decision import Decision, decision_table
from vrp.report.evidence import StudyEvidence
from vrp.report.evidence_tables import (
    differences_table,
    effects_by_task_table,
    effects_table,
    glance_table,
    guards_table,
    layers_table,
    object_table,
    probes_table,
    rivals_table,
    selective_table,
    signals_table,
    trace_table,
    transfer_table,
)
from vrp.report.figures import Figure, Link
from vrp.report.numbers import decimal, listed, thousands, with_interval
from vrp.report.overlays import Overlay
from vrp.report.page_templates import page_environment
from vrp.report.tabular import Table
from vrp.study.graph import STAGE
from vrp.tables.items import asked_items

SECTIONS = (
    ("answer", "The answer"),
    ("reading", "How to read this"),
    ("run", "What was run"),
    ("accounting", "Sample accounting"),
    ("published", "Comparison with the papers"),
    ("answers", "What the models answered"),
    ("signals", "Signals"),
    ("probes", "Probes and their guards"),
    ("interventions", "Interventions"),
    ("figures", "Figures"),
    ("overlays", "Where the models looked"),
    ("limits", "Limitations"),
    ("provenance", "Provenance"),
)
"""Anchor and heading of every section, in order."""
CONCLUSION_SECTIONS = ("signals", "signals", "probes", "interventions")
"""Section with the numbers of each of the four conclusions."""
_JUDGED_SECTIONS = ("reading", "published", "probes", "interventions")
"""Sections that a study without reference answers does not have."""


class Sources(NamedTuple):
    """What a section's numbers are drawn in and read from."""

    figures: tuple[str, ...] = ()
    """Names of figures."""
    tables: tuple[str, ...] = ()
    """Names of tables."""


SOURCES = {
    "answer": Sources(("decision", "auroc_by_signal", "risk_coverage")),
    "run": Sources((), ("items", "sampling", "data")),
    "published": Sources(("claims",), ("metrics", "probes", "effects")),
    "answers": Sources(("accuracy_by_task",), ("metrics",)),
    "signals": Sources(
        ("auroc_by_signal", "roc", "signal_densities", "resolution", "specification_curve",
         "entropy_by_layer", "head_map", "attention_on_object", "lens_margins",
         "contributions", "residual_update", "self_consistency", "sampled_and_exact"),
        ("metrics", "signals", "heads"),
    ),
    "probes": Sources(
        ("probe_by_layer", "risk_coverage", "calibration", "transfer_matrix", "sparse_neurons"),
        ("probes", "predictions", "neurons"),
    ),
    "interventions": Sources(
        ("masking", "ablation", "dose_curve", "interaction_forest", "steering", "trace_by_layer"),
        ("effects", "trace_effects"),
    ),
}  # fmt: skip
"""Of each section that has any."""


def render_page(
    title: str,
    study: StudyEvidence,
    decisions: Sequence[Decision],
    conclusions: Sequence[Conclusion],
    pooled: Mapping[str, ReportedEstimate],
    figures: Sequence[Figure],
    overlays: Mapping[str, Sequence[Overlay]],
    values: Table | None,
    times: ItemTimes,
    tables: Mapping[str, Sequence[Link]],
    provenance: Mapping[str, str],
    *,
    has_explorer: bool,
) -> str:
    """The whole page; every text that comes from data is escaped.

    Args:
        title: of the page.
        study: what the tables say.
        decisions: of each model.
        conclusions: the four sentences.
        pooled: R over all models together.
        figures: in the order in which they are shown.
        overlays: model → its overlays.
        values: of every signal, where no answer can be judged.
        times: what the stages took; the only numbers that two runs do not share.
        tables: table → links to its files.
        provenance: of the report itself.
        has_explorer: whether the study's explorer is beside the page.
    """
    models = study.models
    shown = [figure for figure in figures if figure.finding is not None]
    sections = [
        section for section in SECTIONS
        if not (study.unlabelled and section[0] in _JUDGED_SECTIONS)
    ]  # fmt: skip
    return page_environment().get_template("report.html.j2").render(
        title=title,
        study=study.study,
        has_explorer=has_explorer,
        unlabelled=study.unlabelled,
        sections=sections,
        sources=_sources(shown, tables),
        drawn_of={anchor: SOURCES.get(anchor, Sources()).figures for anchor, _ in SECTIONS},
        decisions=decision_table(decisions, times),
        conclusions=list(zip(conclusions, CONCLUSION_SECTIONS, strict=bool(conclusions))),
        lead=_lead_line(study),
        warnings=_warnings(study),
        embedded=[model.name for model in models if model.embedded],
        models=models,
        glance=glance_table(models),
        splits=splits_table(study),
        sampling=sampling_table(study),
        model_rows=models_table(models),
        prompts=prompts_table(models),
        data=study.data,
        margins=study.margins,
        dropped=dropped_table(models),
        claims=claims_table(models),
        by_family=compared_with_published(models),
        pooled_numbers=compared_pooled(models),
        over_models={
            name: with_interval(number, 3) if number.captured else number.note
            for name, number in pooled.items()
        },
        rates=rates_table(models),
        split_rates=split_rates_table(study),
        vqa_rules=vqa_rules_table(models),
        answer_tables=[answers_table(model) for model in models],
        signal_tables=[signals_table(model) for model in models],
        object_rows=object_table(models),
        sampled_and_exact=sampled_against_exact(models),
        costs=costs_table(models, times),
        timed=bool(times),
        guard_rows=guards_table(models),
        rival_rows=rivals_table(models),
        layer_rows=layers_table(models),
        probe_tables=[probes_table(model) for model in models],
        transfer_tables=[transfer_table(model) for model in models],
        selective_tables=[selective_table(model) for model in models],
        effect_tables=[
            (effects_table(model), effects_by_task_table(model)) for model in models
        ],
        differences=differences_table(study),
        trace_tables=[trace_table(model) for model in models if model.traces],
        figures=shown,
        empty_figures=[figure.name for figure in figures if figure.finding is None],
        overlays=overlays,
        values=values,
        limits=_limits(study),
        provenance=provenance_table(study, provenance),
        versions=versions(study, provenance),
    )  # fmt: skip


def _sources(
    figures: Sequence[Figure], tables: Mapping[str, Sequence[Link]]
) -> dict[str, dict[str, list[Link]]]:
    """Section → links to the figures of its numbers, and to the files that they were read from."""
    shown = {figure.name: Link(figure.title, f"#{figure.anchor}") for figure in figures}
    return {
        section: {
            "figures": [shown[name] for name in of.figures if name in shown],
            "files": [link for name in of.tables for link in tables.get(name, ())],
        }
        for section, of in SOURCES.items()
    }


def _lead_line(study: StudyEvidence) -> str:
    images = study.items["group"].n_unique()
    names = listed([model.name for model in study.models])
    n_items, n_asked = len(study.items), len(asked_items(study.items))
    shared = f" ({thousands(n_asked)} different questions)" if n_asked < n_items else ""
    return (
        f"Study “{study.study}”: {thousands(n_items)} items{shared} on {thousands(images)} "
        f"images, asked of {names}."
    )


def _warnings(study: StudyEvidence) -> list[str]:
    """Warnings to read before comparing with the papers."""
    found = []
    embedded = [model.name for model in study.models if model.embedded]
    if study.missing:
        found.append(_not_whole(study))
    if study.unlabelled:
        found.append(
            "No question of this study has a reference answer, so no answer counts as right or "
            "wrong. The report shows what the models answered and the values of the signals."
        )
    if embedded:
        are = "are tiny embedded models" if len(embedded) > 1 else "is a tiny embedded model"
        found.append(
            f"{listed(embedded)} {are} of this project (checkpoint zoo:…), with the architecture "
            "that the papers studied, at a thousandth of the size. The published numbers are for "
            "other models and other images: agreement or disagreement with them proves nothing."
        )
    if embedded and study.data.get("origin") != "scenes":
        found.append(_out_of_their_world(study))
    unknown = [model.name for model in study.models if not model.checkpoint]
    if unknown:
        found.append(
            f"The tables of {listed(unknown)} do not name the checkpoint that made them. Check the "
            "models' manifests before you compare them with the published numbers."
        )
    return found


def _not_whole(study: StudyEvidence) -> str:
    """Warning about a study of which results are missing."""
    answered = {model.name for model in study.models}
    parts = []
    for name, stages in study.missing.items():
        lacks = (
            f"{name or 'All models'}: no results of {listed([STAGE[s].command for s in stages])}"
        )
        parts.append(lacks + ("" if name in answered or not name else " (left out of this report)"))
    return f"This study is incomplete: a job failed or has not run yet. {'; '.join(parts)}."


def _out_of_their_world(study: StudyEvidence) -> str:
    """Warning about embedded models on images that are not rendered scenes."""
    models = [model for model in study.models if model.embedded]
    shares = [
        f"{model.name} {decimal(100 * judged.to_numpy().mean(), 1)}%"
        for model in models
        if len(judged := model.answers["correct"].drop_nulls())
    ]
    accuracy = f" Accuracy here: {listed(shares)}." if shares else ""
    return (
        f"{listed([model.name for model in models])} learnt from rendered scenes with few kinds "
        "of objects and never saw a photograph. On these data, accuracy near chance is expected "
        "(half of balanced yes/no questions, few of the others). This study shows that the "
        f"workflow runs, and says nothing about the accuracy of a real model.{accuracy}"
    )


def _limits(study: StudyEvidence) -> list[str]:
    limits = [
        "That a signal or probe tells right from wrong holds for these questions, images and "
        "prompts, and is an association, not a mechanism. Only interventions are causal, and they "
        "change a model in ways that no real input does.",
        "An answer is right if the parser and the reference answer say so. Short answers are "
        "scored by matching: a right answer in other words counts as wrong (see “What the models "
        "answered”).",
        "Intervals are clustered by image, because questions about one image are not independent. "
        "Those of probes are conditional on the fit. They hold for similar images, one prompt and "
        "greedy decoding, and do not include the variation over prompts and seeds. The spread "
        "between random sets of neurons is included in the intervals of comparisons with them.",
        "“No” means that an equivalence test shows a difference smaller than the margin, or that "
        "the estimate fails a guard. A signal that is only no better than a baseline, such as "
        "the question alone, is undecided. A small effect within the margin may still exist.",
        "The best layer is chosen on training folds. The curve over layers and its highest layer "
        "are shown for orientation and are not corrected for selection.",
        "The gap between the best probe and the best output signal selects that signal on the "
        "same items, which makes the gap, if anything, too small.",
        "A blank image or a masked token is outside the training distribution of a model, which "
        "causes part of the effect.",
    ]
    small = [
        f"{task} ({n})"
        for task, n in asked_items(study.items).group_by("task").len().sort("task").iter_rows()
        if n < 200
    ]
    if small:
        limits.append(
            f"Some tasks have few items: {listed(small)}. Their intervals are wide. They have "
            "little weight within strata, but as much as the others in a mean over tasks."
        )
    return limits

"""The tables of signals, probes, guards and interventions."""

import math
from collections.abc import Sequence

from vrp.estimates.predictors import predictor_kind, predictor_label
from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.estimates.verdicts import Outcome, Standing, standing
from vrp.findings.contrasts import TASK_ONLY
from vrp.findings.evidence import ModelEvidence, TracedLayers
from vrp.findings.guards import guards
from vrp.interventions.ablation import AblationCondition
from vrp.interventions.conditions import Condition, Contrast, StudyConditions
from vrp.interventions.tracing import KINDS
from vrp.probing.labels import LINEAR, LINEAR_BEST, TRANSFER
from vrp.report.claim_words import guard_cell, verdict_cell
from vrp.report.evidence import StudyEvidence
from vrp.report.numbers import NONE, decimal, p_value, percent, thousands
from vrp.report.tabular import (
    Cell,
    Table,
    common_axis,
    estimate_cell,
    missing,
    name_cell,
    whisker_cell,
    without_repeats,
)
from vrp.signals.registry import ON_OBJECT, SIGNALS
from vrp.stats.estimate import ALPHA
from vrp.tables.effects import OBJECT_IDENTIFICATION
from vrp.tables.estimates import (
    MACRO,
    OBJECT_AREA,
    OBJECT_EXCESS,
    POOLED,
    WITHIN_AGREEMENT,
    WITHIN_ANSWERS,
    WITHIN_QUESTION_SCORE,
    WITHIN_STRATA,
)

# Share of neurons from which on an ablation is of many, as the papers' architectural claim has it.
_MANY = 0.5
_OUTCOME_KINDS = {Outcome.HOLDS: "good", Outcome.FAILS: "bad", Outcome.UNSETTLED: "muted"}


def glance_table(models: Sequence[ModelEvidence]) -> Table:
    """The headline estimates of every model, drawn: what stands for each question."""
    aurocs = (
        "spatial_entropy", "cluster_count_dbscan", "self_consistency", "token_confidence",
        LINEAR_BEST,
    )  # fmt: skip
    gaps = [m.specificity(kind) for m in models for kind in ("mask", "ablate")]
    least = max((model.margins.effect_pp for model in models), default=0.0)
    reach = common_axis((gap.effect for gap in gaps if gap), least=least)
    rows = []
    for name in aurocs:
        for model in models:
            number = model.auroc(name)
            rows.append([
                name_cell(predictor_label(name)), Cell(model.name), estimate_cell(number),
                whisker_cell(number, low=0.3, high=1.0, null=0.5),
            ])  # fmt: skip
    for kind, text in (
        ("mask", "most attended patches hidden, minus random"),
        ("ablate", "top neurons ablated, minus random"),
    ):
        for model in models:
            gap = model.specificity(kind)
            number = gap.effect if gap else None
            rows.append([
                name_cell(text), Cell(model.name),
                estimate_cell(number, 1, signed=True, unit=" pp"),
                whisker_cell(number, low=reach[0], high=reach[1], null=0.0),
            ])  # fmt: skip
    columns = ["read from", "model", "AUROC or effect", ""]
    return Table(columns, without_repeats(rows), text_columns=(1, 3))


def signals_table(model: ModelEvidence) -> Table:
    """AUROC of every signal: within strata with interval, p and equivalence, then by task."""
    rows = []
    for name in model.signals():
        number = model.auroc(name)
        detail = "" if SIGNALS[name].deployable else "diagnostic: needs annotations"
        rows.append([name_cell(predictor_label(name), detail), *_auroc_cells(model, name, number)])
    columns = [
        "signal", "AUROC, within strata", "", "p (Holm)", "verdict", "within one answer",
        *model.tasks, "mean over tasks", "pooled", "R, within strata",
    ]  # fmt: skip
    for row, name in zip(rows, model.signals(), strict=True):
        row.append(estimate_cell(model.metric(name, "r", WITHIN_STRATA), 2))
    return Table(columns, rows, caption=model.name, text_columns=(2, 4))


def _auroc_cells(model: ModelEvidence, name: str, number: ReportedEstimate | None) -> list[Cell]:
    return [
        estimate_cell(number),
        whisker_cell(number, low=0.3, high=1.0, null=0.5),
        _p_cell(number),
        verdict_cell(model, name),
        estimate_cell(model.auroc(name, WITHIN_ANSWERS)),
        *(estimate_cell(model.auroc(name, scope)) for scope in (*model.tasks, MACRO, POOLED)),
    ]


def object_table(models: Sequence[ModelEvidence]) -> Table:
    """Attention on the object that is asked for, beside the object's area."""
    rows = []
    for model in models:
        excess = model.metric(ON_OBJECT, OBJECT_EXCESS, POOLED)
        area = model.metric(ON_OBJECT, OBJECT_AREA, POOLED)
        if excess is None or area is None:
            continue
        rows.append([
            Cell(model.name), estimate_cell(area, 1, scale=100, unit="%"),
            estimate_cell(excess, 1, scale=100, signed=True, unit=" pp"),
            Cell(p_value(excess.p_adjusted)), estimate_cell(model.auroc(ON_OBJECT)),
            verdict_cell(model, ON_OBJECT), Cell(thousands(excess.n)),
            Cell(thousands(excess.n_groups)),
        ])  # fmt: skip
    columns = [
        "model", "object's share of the image", "its share of attention, minus the former", "p",
        "AUROC, within strata", "verdict", "questions", "images",
    ]  # fmt: skip
    return Table(columns, rows, text_columns=(5,))


def probes_table(model: ModelEvidence) -> Table:
    """AUROC of every probe, with the guards that stand beside it."""
    rows = []
    for name in model.probe_names():
        number = model.auroc(name)
        matched = (model.auroc(name, scope) for scope in (WITHIN_AGREEMENT, WITHIN_QUESTION_SCORE))
        rows.append([
            name_cell(predictor_label(name)), *_auroc_cells(model, name, number),
            *map(estimate_cell, matched),
        ])  # fmt: skip
    columns = [
        "probe or guard", "AUROC, within strata", "", "p (Holm)", "verdict", "within one answer",
        *model.tasks, "mean over tasks", "pooled", "equal agreement", "equal question score",
    ]  # fmt: skip
    return Table(columns, rows, caption=model.name, text_columns=(2, 4))


def transfer_table(model: ModelEvidence) -> Table:
    """A probe that learnt from one split, judged on each: the transfer matrix."""
    found = {
        (predictor.removeprefix(TRANSFER), scope): number
        for (predictor, metric, scope, _), number in model.probes.items()
        if metric == "transfer_auroc"
    }
    splits = list(dict.fromkeys(source for source, _ in found))
    rows = [
        [name_cell(source), *(estimate_cell(found.get((source, target))) for target in splits)]
        for source in splits
    ]
    return Table(["fitted on, evaluated on", *splits], rows, caption=model.name)


def selective_table(model: ModelEvidence) -> Table:
    """Accuracy where the most confident items are answered, for each deployable predictor."""
    rows = []
    for name in (*model.signals(), *model.probe_names()):
        kind = predictor_kind(name)
        deployable = SIGNALS[name].deployable if name in SIGNALS else kind == "probes"
        found = [
            model.metric(name, metric, POOLED) or model.probe(name, metric, POOLED)
            for metric in ("accuracy_at_90", "accuracy_at_80", "accuracy_at_50", "prr")
        ]
        if deployable and any(found):
            *shares, ratio = found
            rows.append([
                name_cell(predictor_label(name)),
                *(estimate_cell(one, 1, scale=100, unit="%") for one in shares),
                estimate_cell(ratio),
            ])  # fmt: skip
    columns = ["ranked by", "90% answered", "80%", "50%", "rejection ratio (PRR)"]
    return Table(columns, rows, caption=model.name)


def guards_table(models: Sequence[ModelEvidence]) -> Table:
    """Every guard of the best probe, and whether it holds."""
    found = {model.name: guards(model) for model in models}
    if not found:
        return Table(["guard"], [])
    first = next(iter(found.values()))
    rows = []
    for index, guard in enumerate(first):
        cells = [name_cell(guard.name, guard.measure)]
        for model in models:
            here = found[model.name][index]
            if here.number is None or not here.number.defined:
                cells += [missing(), Cell("")]
                continue
            cells.append(guard_cell(here))
            unsettled = here.outcome is Outcome.UNSETTLED
            detail = _resolution(here.number) if unsettled else ""
            cells.append(Cell(here.outcome, detail, _OUTCOME_KINDS.get(here.outcome, "")))
        rows.append(cells)
    columns = ["guard", *(text for _ in models for text in ("estimate", "verdict"))]
    groups = [("", 1), *((model.name, 2) for model in models)]
    return Table(columns, rows, groups=groups)


def rivals_table(models: Sequence[ModelEvidence]) -> Table:
    """Best probe's AUROC minus that of every other probe and baseline."""
    names = list(dict.fromkeys(name for model in models for name in model.contrasts))
    rows = []
    for name in names:
        cells = [name_cell(predictor_label(name), "over all items" if name == TASK_ONLY else "")]
        for model in models:
            gap = model.contrasts.get(name)
            p = _p_cell(gap)
            if gap is not None and standing(gap, null=0.0) is Standing.UNSETTLED:
                p = p._replace(detail=_resolution(gap))
            cells += [estimate_cell(gap, signed=True), p]
        rows.append(cells)
    columns = ["best probe minus", *(text for _ in models for text in ("AUROC", "p (Holm)"))]
    groups = [("", 1), *((model.name, 2) for model in models)]
    return Table(columns, rows, groups=groups)


def _resolution(number: ReportedEstimate) -> str:
    """The smallest detectable difference, in small print."""
    return (
        f"detectable from {decimal(number.resolvable, 3)}"
        if math.isfinite(number.resolvable)
        else ""
    )


def layers_table(models: Sequence[ModelEvidence]) -> Table:
    """Fragile or distributed: how concentrated the probe is over layers and neurons."""
    rows = []
    for model in models:
        peak = model.peak_layer()
        number = model.auroc_by_layer().get(peak) if peak is not None else None
        near = model.probe(LINEAR, "layers_within_0.02", WITHIN_STRATA)
        last = model.last_layer()
        rows.append([
            name_cell(model.name),
            Cell(" ".join(map(str, model.best_layers)) or NONE),
            Cell(NONE if peak is None else str(peak), f"of 0–{last}" if last is not None else ""),
            estimate_cell(number),
            estimate_cell(model.probe(LINEAR_BEST, "auroc_fold_seeds", WITHIN_STRATA)),
            Cell(NONE if near is None else f"{near.value:.0f}"),
            _share_cell(model.probe("sparse", "share_nonzero", "pooled")),
            _share_cell(model.probe("sparse", "weight_share_top_5", "pooled")),
        ])  # fmt: skip
    columns = [
        "model", "best layer, by fold", "layer of the highest AUROC", "AUROC there",
        "best layer over fold seeds, range", "layers within 0.02 of it",
        "neurons kept by the sparse probe", "weight in its top 5 neurons",
    ]  # fmt: skip
    return Table(columns, rows)


def effects_table(model: ModelEvidence) -> Table:
    """Every condition over all items: effect, control, specificity, equivalence."""
    found = {
        (kind, condition): effect
        for (kind, condition, scope), effect in model.effects.items()
        if scope == "all"
    }
    ordered = [
        (condition, found[kind, condition.name])
        for kind, condition in _ordered_conditions(model)
        if (kind, condition.name) in found
    ]
    axis = common_axis((effect.effect for _, effect in ordered), least=model.margins.effect_pp)
    rows = [_effect_row(condition, effect, axis) for condition, effect in ordered]
    columns = [
        "condition", "items", "accuracy before, %", "after, %", "effect", "", "p (Holm)",
        "verdict", "answers changed, %", "decision margin", "over seeds",
    ]  # fmt: skip
    return Table(columns, rows, caption=model.name, text_columns=(5, 7))


def trace_table(model: ModelEvidence) -> Table:
    """What knockouts leave, and patches restore, of what the image adds, layer by layer."""
    kinds = [kind for kind in KINDS if model.traces.get(kind)]
    found = {(one.first, kind): one for kind in kinds for one in model.traces[kind]}
    rows = []
    for layer in sorted({layer for layer, _ in found}):
        here = [found.get((layer, kind)) for kind in kinds]
        shares = [one.share for one in here if one]
        rows.append([
            Cell(str(layer)), *map(_traced_cell, here),
            _count_cell([share.n for share in shares]),
            _count_cell([share.n_groups for share in shares]),
        ])  # fmt: skip
    columns = ["from layer", *(KINDS[kind] for kind in kinds), "questions", "images"]
    return Table(columns, rows, caption=model.name)


def _traced_cell(found: TracedLayers | None) -> Cell:
    if found is None:
        return Cell(NONE, kind="muted")
    span = f"layers {found.first} to {found.last}; " if found.last > found.first else ""
    cell = estimate_cell(found.share, 1, scale=100, unit="%")
    same = f"{span}same first token {decimal(100 * found.same_token, 1)}%"
    return cell._replace(title=f"{same}; {cell.title}")


def _count_cell(counts: Sequence[int]) -> Cell:
    """How many stand behind a row's estimates: one number, or from the fewest to the most."""
    return Cell("–".join(thousands(n) for n in sorted({min(counts), max(counts)})))


def _effect_row(
    condition: Condition | Contrast, effect: Effect, axis: tuple[float, float]
) -> list[Cell]:
    seeds = effect.per_seed
    spread = f"{decimal(min(seeds), 1, signed=True)} … {decimal(max(seeds), 1, signed=True)}"
    over = (spread, f"{len(seeds)} seeds") if len(seeds) > 1 else (NONE, "")
    if effect.place is not None:
        over = (f"rank {effect.place}", "among the random sets; 1 is the most harmful")
    turned = f"gained {decimal(100 * effect.gained, 1)}, lost {decimal(100 * effect.lost, 1)}"
    return [
        name_cell(condition.label, condition.name),
        Cell(thousands(effect.effect.n), f"{thousands(effect.effect.n_groups)} images"),
        Cell(decimal(100 * effect.baseline, 1)),
        Cell(decimal(100 * effect.accuracy, 1), _beside_blank(effect)),
        estimate_cell(effect.effect, 1, signed=True, unit=" pp"),
        whisker_cell(effect.effect, low=axis[0], high=axis[1], null=0.0),
        _p_cell(effect.effect._replace(p_equivalence_adjusted=math.nan)),
        _verdict_cell(effect.effect),
        Cell(decimal(100 * effect.changed, 1), turned),
        estimate_cell(effect.margin, 2, signed=True),
        Cell(*over),
    ]


def _beside_blank(effect: Effect) -> str:
    if not effect.disturbs:
        return ""
    return f"{decimal(-effect.to_blank.value, 1)} pp below a blank image"


_STANDING_WORDS = {
    Standing.EQUIVALENT: ("accuracy equivalent", "good"),
    Standing.ABOVE: ("differs", ""),
    Standing.BELOW: ("differs", ""),
    Standing.UNSETTLED: ("undecided", "muted"),
}


def _equivalence(number: ReportedEstimate) -> str:
    p = number.p_equivalence_adjusted
    return f"equiv. {p_value(p)}" if p >= 0 else ""


def _verdict_cell(effect: ReportedEstimate) -> Cell:
    where = standing(effect, null=0.0)
    text, kind = _STANDING_WORDS.get(where, (NONE, "muted"))
    detail = _equivalence(effect)
    if where is Standing.UNSETTLED and effect.resolvable < 100:
        detail = f"detectable from {decimal(effect.resolvable, 1)} pp"
    return Cell(text, detail, kind)


def effects_by_task_table(model: ModelEvidence) -> Table:
    """The same effects within each task, and on object identification."""
    scopes = [
        scope
        for scope in (*model.tasks, "macro", OBJECT_IDENTIFICATION)
        if any(key[2] == scope for key in model.effects)
    ]
    rows = []
    for kind, condition in _ordered_conditions(model):
        cells = [name_cell(condition.label, condition.name)]
        for scope in scopes:
            effect = model.effect(kind, condition.name, scope)
            cells.append(
                estimate_cell(effect.effect, 1, signed=True) if effect else Cell(NONE, kind="muted")
            )
        rows.append(cells)
    heads = {"macro": "mean over tasks", OBJECT_IDENTIFICATION: "object identification"}
    columns = ["condition, effect in pp", *(heads.get(scope, scope) for scope in scopes)]
    return Table(columns, rows, caption=model.name)


def differences_table(study: StudyEvidence) -> Table:
    """Where an intervention's effect on one model differs from that on another."""
    conditions = study.models[0].conditions if study.models else StudyConditions()
    wanted: list[tuple[str, Condition | Contrast]] = []
    for intervention in ("mask", "ablate"):
        main = conditions.main(intervention)
        contrast = conditions.contrasts(intervention).get(main.name) if main else None
        wanted += [(intervention, contrast)] if contrast else []
    wanted += [
        ("ablate", condition)
        for condition in conditions.ablate.values()
        if isinstance(condition, AblationCondition)
        and (condition.kind == "mlp" or (condition.share or 0) >= _MANY)
    ]
    rows = []
    for intervention, condition in wanted:
        for (pair, kind, name), found in study.between_models.items():
            if (kind, name) == (intervention, condition.name):
                rows.append([
                    name_cell(condition.label, condition.name), Cell(pair.replace(" - ", " − ")),
                    estimate_cell(found.effect, 1, signed=True, unit=" pp"),
                    _p_cell(found.effect), _verdict_cell(found.effect),
                    Cell(thousands(found.effect.n)), Cell(thousands(found.effect.n_groups)),
                ])  # fmt: skip
    columns = [
        "condition", "models", "difference of the effects", "p (Holm)", "verdict", "questions",
        "images",
    ]  # fmt: skip
    return Table(columns, without_repeats(rows), text_columns=(1, 4))


def _ordered_conditions(model: ModelEvidence) -> list[tuple[str, Condition | Contrast]]:
    """Conditions by intervention: those of the main size first, each with its control and
    difference, then whole images, then the others by size, value and depth."""

    def order(entry: tuple[str, Condition | Contrast]) -> tuple[object, ...]:
        intervention, condition = entry
        main = model.main_condition(intervention)
        of_main = main is not None and (condition.size, condition.variant) == (
            main.size, main.variant
        )  # fmt: skip
        place = 0 if of_main else 1 if condition.size is None else 2
        size = condition.size or 0.0
        return intervention != "mask", place, condition.variant, size, condition.rank

    found = {(kind, condition) for kind, condition, _ in model.effects}
    return sorted(((kind, model.conditions.named(kind, name)) for kind, name in found), key=order)


def _p_cell(number: ReportedEstimate | None) -> Cell:
    """Holm's p, with that of the equivalence test in small print."""
    if number is None:
        return Cell(NONE, kind="muted")
    return Cell(
        p_value(number.p_adjusted),
        _equivalence(number),
        "strong" if number.p_adjusted < ALPHA else "",
    )


def _share_cell(number: ReportedEstimate | None) -> Cell:
    return Cell(NONE, kind="muted") if number is None else Cell(percent(number))

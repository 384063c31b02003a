"""The tables of signals, probes, guards and interventions."""

import math
import re
from collections.abc import Sequence

from vrp.report.answer import FAILS, HOLDS, UNSETTLED, guards
from vrp.report.contrasts import OUTPUT_SIGNALS, POOLED_ONLY
from vrp.report.evidence import PROBE, ModelEvidence, label
from vrp.report.numbers import (
    NONE,
    Effect,
    Number,
    Standing,
    decimal,
    p_value,
    percent,
    standing,
    thousands,
)
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
from vrp.signals.registry import SIGNALS
from vrp.stats.estimate import ALPHA

_DIAGNOSTIC = frozenset(signal.name for signal in SIGNALS if not signal.deployable)
_GUARD_KINDS = {HOLDS: "good", FAILS: "bad", UNSETTLED: "muted"}


def glance_table(models: Sequence[ModelEvidence]) -> Table:
    """The headline estimates of every model, drawn: what stands for each question."""
    aurocs = ("spatial_entropy", "cluster_count_dbscan", *OUTPUT_SIGNALS[:2], PROBE)
    gaps = [m.specificity(kind) for m in models for kind in ("mask", "ablate")]
    least = max((model.margins.effect_pp for model in models), default=0.0)
    reach = common_axis((gap.effect for gap in gaps if gap), null=0.0, least=least)
    rows = []
    for name in aurocs:
        for model in models:
            number = model.auroc(name)
            rows.append([
                name_cell(label(name)), Cell(model.name), estimate_cell(number),
                whisker_cell(number, low=0.3, high=1.0, null=0.5),
            ])  # fmt: skip
    for kind, text in (
        ("mask", "most attended patches hidden, minus random"),
        ("ablate", "top neurons silenced, minus random"),
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
    """AUROC of every signal: mean over tasks with interval, p and equivalence, then by task."""
    rows = []
    for name in model.signals():
        number = model.auroc(name)
        detail = "diagnostic: holds the label" if name in _DIAGNOSTIC else ""
        rows.append([name_cell(label(name), detail), *_auroc_cells(model, name, number)])
    columns = [
        "signal", "AUROC, mean over tasks", "", "p (Holm)",
        *model.tasks, "pooled", "R, within task",
    ]  # fmt: skip
    for row, name in zip(rows, model.signals(), strict=True):
        row.append(estimate_cell(model.metric(name, "r", "pooled_within"), 2))
    return Table(columns, rows, caption=model.name, text_columns=(2,))


def _auroc_cells(model: ModelEvidence, name: str, number: Number | None) -> list[Cell]:
    return [
        estimate_cell(number),
        whisker_cell(number, low=0.3, high=1.0, null=0.5),
        _p_cell(number),
        *(_bare(model.auroc(name, task)) for task in model.tasks),
        _bare(model.auroc(name, "pooled")),
    ]


def probes_table(model: ModelEvidence) -> Table:
    """AUROC of every probe, with the guards that stand beside it."""
    rows = []
    for name in model.probe_names():
        number = model.auroc(name)
        rows.append([
            name_cell(label(name)),
            *_auroc_cells(model, name, number),
            _bare(model.auroc(name, "answer_yes")),
            _bare(model.auroc(name, "answer_no")),
        ])  # fmt: skip
    columns = [
        "probe or guard", "AUROC, mean over tasks", "", "p (Holm)",
        *model.tasks, "pooled", "within yes", "within no",
    ]  # fmt: skip
    return Table(columns, rows, caption=model.name, text_columns=(2,))


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
            its = found[model.name][index]
            if its.number is None or not its.number.defined:
                cells += [missing(), Cell("")]
                continue
            signed = "minus" in its.measure
            cells.append(estimate_cell(its.number, signed=signed))
            cells.append(Cell(its.outcome, kind=_GUARD_KINDS.get(its.outcome, "")))
        rows.append(cells)
    columns = ["guard", *(text for _ in models for text in ("estimate", "verdict"))]
    groups = [("", 1), *((model.name, 2) for model in models)]
    return Table(columns, rows, groups=groups)


def rivals_table(models: Sequence[ModelEvidence]) -> Table:
    """Best probe's AUROC minus that of everything that stands beside it."""
    names = list(dict.fromkeys(name for model in models for name in model.contrasts))
    rows = []
    for name in names:
        cells = [name_cell(label(name), "over all items" if name == POOLED_ONLY else "")]
        for model in models:
            gap = model.contrasts.get(name)
            cells += [estimate_cell(gap, signed=True), _p_cell(gap)]
        rows.append(cells)
    columns = ["best probe minus", *(text for _ in models for text in ("AUROC", "p (Holm)"))]
    groups = [("", 1), *((model.name, 2) for model in models)]
    return Table(columns, rows, groups=groups)


def layers_table(models: Sequence[ModelEvidence]) -> Table:
    """Fragile or distributed: how concentrated the probe is over layers and neurons."""
    rows = []
    for model in models:
        peak = model.peak_layer()
        number = model.auroc_by_layer().get(peak) if peak is not None else None
        near = model.probe("linear", "layers_within_0.02", "macro")
        last = model.last_layer()
        rows.append([
            name_cell(model.name),
            Cell(" ".join(map(str, model.best_layers)) or NONE),
            Cell(NONE if peak is None else str(peak), f"of 0–{last}" if last is not None else ""),
            estimate_cell(number),
            Cell(NONE if near is None else f"{near.value:.0f}"),
            _share_cell(model.probe("sparse", "share_nonzero", "pooled")),
            _share_cell(model.probe("sparse", "weight_share_top_5", "pooled")),
        ])  # fmt: skip
    columns = [
        "model", "best layer, by fold", "layer of the highest AUROC", "AUROC there",
        "layers within 0.02 of it", "neurons kept by the sparse probe",
        "weight in its top 5 neurons",
    ]  # fmt: skip
    return Table(columns, rows)


def effects_table(model: ModelEvidence) -> Table:
    """Every condition over all items: effect, control, specificity, equivalence."""
    found = {
        (kind, condition): effect
        for (kind, condition, scope), effect in model.effects.items()
        if scope == "all"
    }
    names = [name for name in _ordered_conditions(model) if name in found]
    axis = common_axis(
        (found[name].effect for name in names), null=0.0, least=model.margins.effect_pp
    )
    rows = [_effect_row(name, found[name], axis) for name in names]
    columns = [
        "condition", "items", "accuracy before, %", "after, %", "effect", "", "p (Holm)",
        "verdict", "answers changed, %", "over seeds",
    ]  # fmt: skip
    return Table(columns, rows, caption=model.name, text_columns=(5, 7))


def _effect_row(name: tuple[str, str], effect: Effect, axis: tuple[float, float]) -> list[Cell]:
    kind, condition = name
    seeds = effect.per_seed
    spread = f"{decimal(min(seeds), 1, signed=True)} … {decimal(max(seeds), 1, signed=True)}"
    return [
        name_cell(condition_label(kind, condition), condition),
        Cell(thousands(effect.effect.n), f"{thousands(effect.effect.n_groups)} images"),
        Cell(decimal(100 * effect.baseline, 1)),
        Cell(decimal(100 * effect.accuracy, 1)),
        estimate_cell(effect.effect, 1, signed=True, unit=" pp"),
        whisker_cell(effect.effect, low=axis[0], high=axis[1], null=0.0),
        _p_cell(effect.effect._replace(p_equivalence=math.nan)),
        _verdict_cell(effect.effect),
        Cell(decimal(100 * effect.changed, 1)),
        Cell(spread if len(seeds) > 1 else NONE, f"{len(seeds)} seeds" if len(seeds) > 1 else ""),
    ]


def _verdict_cell(effect: Number) -> Cell:
    words = {
        Standing.EQUIVALENT: ("no effect", "good"),
        Standing.ABOVE: ("differs", ""),
        Standing.BELOW: ("differs", ""),
        Standing.UNSETTLED: ("undecided", "muted"),
        Standing.MISSING: (NONE, "muted"),
    }
    text, kind = words[standing(effect, null=0.0)]
    detail = f"equiv. {p_value(effect.p_equivalence)}" if effect.p_equivalence >= 0 else ""
    return Cell(text, detail, kind)


def effects_by_task_table(model: ModelEvidence) -> Table:
    """The same effects within each task, and on object identification."""
    scopes = [
        scope
        for scope in (*model.tasks, "macro", "object_identification")
        if any(key[2] == scope for key in model.effects)
    ]
    rows = []
    for kind, condition in _ordered_conditions(model):
        cells = [name_cell(condition_label(kind, condition), condition)]
        for scope in scopes:
            effect = model.effect(kind, condition, scope)
            cells.append(
                estimate_cell(effect.effect, 1, signed=True) if effect else Cell(NONE, kind="muted")
            )
        rows.append(cells)
    heads = {"macro": "mean over tasks", "object_identification": "object identification"}
    columns = ["condition, effect in pp", *(heads.get(scope, scope) for scope in scopes)]
    return Table(columns, rows, caption=model.name)


_KINDS = ("top", "random", "bottom", "no_image", "other_image", "mlp")


def _ordered_conditions(model: ModelEvidence) -> list[tuple[str, str]]:
    """Conditions by intervention: those of the main size first, each with its control and
    difference, then whole images, then the others by size, value and depth."""

    def order(name: tuple[str, str]) -> tuple[object, ...]:
        kind, condition = name
        first, contrast, _ = condition.partition(" - ")
        rank = next((i for i, start in enumerate(_KINDS) if first.startswith(start)), len(_KINDS))
        size, variant = _size_and_variant(first)
        main = _size_and_variant(model.top_condition(kind) or "")
        whole = size is None
        place = 0 if (size, variant) == main else 1 if whole and not variant else 2
        # A difference follows the control that it is taken from.
        return kind != "mask", place, variant, size or 0.0, 1.5 if contrast else rank, condition

    found = {(kind, condition) for kind, condition, _ in model.effects}
    return sorted(found, key=order)


def _size_and_variant(condition: str) -> tuple[float | None, str]:
    """Size of a condition's name, and what follows it (unit, value, depth)."""
    match = re.match(r"[a-z]+_(\d+(?:\.\d+)?)(.*)", condition)
    return (float(match[1]), match[2]) if match else (None, "")


def condition_label(kind: str, condition: str) -> str:
    """A condition in words; its own name where it has an unknown form."""
    if " - " in condition:
        return f"{condition_label(kind, condition.split(' - ')[0])}, minus random"
    if condition in ("no_image", "other_image"):
        return {"no_image": "blank image", "other_image": "another item's image"}[condition]
    if kind == "mask":
        match = re.fullmatch(r"(top|random|bottom)_([\d.]+)", condition)
        which = {"top": "most attended", "random": "random", "bottom": "least attended"}
        return f"{match[2]}% of patches, {which[match[1]]}" if match else condition
    return _ablation_label(condition)


def _ablation_label(condition: str) -> str:
    match = re.fullmatch(
        r"(top|random|mlp)_(bypass|[\d.]+(?:pct)?)(?:_(mean|plus_100|minus_100))?"
        r"(?:_depth([\d.]+))?",
        condition,
    )
    if not match:
        return condition
    which, size, value, depth = match.groups()
    if which == "mlp":
        words = "MLP bypassed"
    elif size.endswith("pct"):
        words = f"{size.removesuffix('pct')}% of neurons, {which}"
    else:
        words = f"{which} {size} neurons" if which == "top" else f"{size} random neurons"
    if value:
        words += ", set to " + {"mean": "mean", "plus_100": "+100", "minus_100": "−100"}[value]
    return f"{words}, at depth {depth}%" if depth else words


def _p_cell(number: Number | None) -> Cell:
    """Holm's p, with that of the equivalence test in small print."""
    if number is None:
        return Cell(NONE, kind="muted")
    detail = f"equiv. {p_value(number.p_equivalence)}" if number.p_equivalence >= 0 else ""
    return Cell(p_value(number.p_adjusted), detail, "strong" if number.p_adjusted < ALPHA else "")


def _bare(number: Number | None) -> Cell:
    """The value alone, for columns that are many."""
    if number is None or not number.defined:
        return Cell(NONE, kind="muted")
    return Cell(decimal(number.value, 3))


def _share_cell(number: Number | None) -> Cell:
    return Cell(NONE, kind="muted") if number is None else Cell(percent(number))

"""Comparison with the papers: one row per published quantity, one column per model."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.findings.published_numbers import CHECKPOINTS, POOLED, published
from vrp.probing.labels import LINEAR_BEST
from vrp.report.numbers import decimal, interval, layers_in_words, listed, with_interval
from vrp.report.tabular import Cell, Table, estimate_cell, missing, name_cell
from vrp.tables.effects import OBJECT_IDENTIFICATION
from vrp.tables.estimates import WITHIN_STRATA

Ours = Callable[[ModelEvidence], Cell]


class Quantity(NamedTuple):
    """One quantity that the papers report."""

    key: str
    """Key of the published numbers."""
    label: str
    """Name in the table."""
    ours: Ours
    """Function that finds this study's number."""


def compared_with_published(models: Sequence[ModelEvidence]) -> Table:
    """The table by family: each model of the study left of its family's published checkpoint.

    A family that the study did not run shows its published numbers alone; a model of another
    family stands alone.
    """
    groups = _column_groups(models)
    rows = []
    for row in QUANTITIES:
        cells = [name_cell(row.label)]
        for family, members in groups:
            cells += [row.ours(model) for model in members]
            if family in CHECKPOINTS:
                cells.append(_published_cell(row.key, family))
        rows.append(cells)
    columns = ["quantity"]
    headings = [("", 1)]
    for family, members in groups:
        columns += [model.name for model in members]
        width = len(members)
        if family in CHECKPOINTS:
            columns.append("published")
            width += 1
        headings.append((CHECKPOINTS.get(family) or family or "other family", width))
    return Table(columns, rows, groups=headings)


def compared_pooled(models: Sequence[ModelEvidence]) -> Table:
    """The papers' pooled numbers (3,090 items) beside each model's, over all its items."""
    rows = [
        [name_cell(row.label), *(row.ours(model) for model in models),
         _published_cell(row.key, POOLED)]
        for row in POOLED_QUANTITIES
    ]  # fmt: skip
    return Table(["quantity", *(model.name for model in models), "published, pooled"], rows)


def _column_groups(
    models: Sequence[ModelEvidence],
) -> list[tuple[str, list[ModelEvidence]]]:
    """Families in the papers' order, then the others in the study's."""
    families = list(CHECKPOINTS) + [m.family for m in models if m.family not in CHECKPOINTS]
    return [
        (family, [model for model in models if model.family == family])
        for family in dict.fromkeys(families)
    ]


def _published_cell(row: str, family: str) -> Cell:
    found = published(row, family)
    return Cell(found.text, found.detail, "published") if found else Cell("–", kind="published")


def _share(predictor: str, metric: str) -> Ours:
    return lambda model: estimate_cell(
        model.metric(predictor, metric, "pooled"), 1, scale=100, unit="%"
    )


def _auroc(predictor: str, scope: str = WITHIN_STRATA) -> Ours:
    return lambda model: estimate_cell(model.auroc(predictor, scope))


def _probe_share(predictor: str, metric: str) -> Ours:
    def ours(model: ModelEvidence) -> Cell:
        number = model.probe(predictor, metric, "pooled")
        if number is None:  # where the probe's inputs were not captured, its AUROC says so
            return missing(model.auroc(predictor))
        return estimate_cell(number, 1, scale=100, unit="%")

    return ours


def _effect(intervention: str, condition: str, scope: str = "all") -> Ours:
    return lambda model: effect_cell(model.effect(intervention, condition, scope))


def effect_cell(effect: Effect | None) -> Cell:
    """An effect in percentage points with its interval."""
    if effect is None:
        return missing()
    return estimate_cell(effect.effect, 1, signed=True, unit=" pp")


def _masking(model: ModelEvidence) -> Cell:
    main = model.main_condition("mask")
    cell = effect_cell(model.main_effect("mask"))
    if main is None or main.name == "top_30":
        return cell
    return cell._replace(detail=f"{cell.detail}, {main.name}")


def _head_r2(model: ModelEvidence) -> Cell:
    judged: dict[str, ReportedEstimate] = {
        metric.removeprefix("r2_top_"): number
        for (predictor, metric, _, _), number in model.metrics.items()
        if predictor == "top_heads" and metric.startswith("r2_top_")
    }
    found = {k: number for k, number in judged.items() if number.defined}
    if not found:
        return missing(next(iter(judged.values()), None))
    k = max(found, key=lambda name: found[name].value)
    null = model.metric("top_heads", f"null_r2_top_{k}", "pooled")
    beside = f"; of permuted labels {decimal(null.value, 3)}" if null is not None else ""
    return Cell(decimal(found[k].value, 3), f"top {k}{beside}")


def _supervised_attention(model: ModelEvidence) -> Cell:
    """Accuracy of the tree ensemble beside that of always predicting the commoner outcome."""
    cell = _probe_share("attention_trees", "accuracy")(model)
    right = model.metric("model", "accuracy", "pooled")
    if right is None or not cell.detail:
        return cell
    base = max(right.value, 1 - right.value)
    return cell._replace(detail=f"{cell.detail}; always the same: {decimal(100 * base, 1)}%")


def _best_probe(model: ModelEvidence) -> Cell:
    cell = estimate_cell(model.auroc(LINEAR_BEST))
    layers = model.picked_layers()
    return cell._replace(detail=f"{cell.detail}, {layers_in_words(layers)}") if layers else cell


def _last_state(model: ModelEvidence) -> Cell:
    last = model.last_layer()
    return missing() if last is None else estimate_cell(model.auroc_by_layer()[last])


def _peak(model: ModelEvidence) -> tuple[int, ReportedEstimate] | None:
    for (predictor, metric, _, layer), number in model.metrics.items():
        if (predictor, metric) == ("truth_margin", "peak"):
            return layer, number
    return None


def _peak_layer(model: ModelEvidence) -> Cell:
    peak, last = _peak(model), model.last_layer()
    if peak is None or not peak[1].defined:
        return missing(peak[1] if peak else None)
    return Cell(str(peak[0]), f"of 0–{last}" if last is not None else "")


def _peak_margin(model: ModelEvidence) -> Cell:
    peak = _peak(model)
    if peak is None or not peak[1].defined:
        return missing(peak[1] if peak else None)
    return Cell(decimal(peak[1].value, 2, signed=True))


def _ablation_layer(model: ModelEvidence) -> Cell:
    if model.main_condition("ablate") is None or not model.best_layers:
        return missing()
    return Cell(listed(model.picked_layers()), "best probe layer")


def _ablation_baseline(model: ModelEvidence) -> Cell:
    effect = model.main_effect("ablate")
    return missing() if effect is None else Cell(f"{decimal(100 * effect.baseline, 1)}%")


def _entropy_drop(model: ModelEvidence) -> Cell:
    mean = model.signal_means.get("largest_entropy_drop", math.nan)
    if not math.isfinite(mean):
        return missing(model.auroc("largest_entropy_drop"))
    return Cell(decimal(mean, 2, signed=True), "mean over items")


def _correlation(predictor: str) -> Ours:
    """R over all items, Fisher's interval as published, the clustered one behind it."""

    def ours(model: ModelEvidence) -> Cell:
        fisher = model.metric(predictor, "r_fisher", "pooled")
        clustered = model.metric(predictor, "r", "pooled")
        cell = estimate_cell(fisher)
        if fisher is None or clustered is None or not fisher.defined:
            return cell
        images = with_interval(clustered, 3).partition(" ")[2]
        return cell._replace(detail=f"{cell.detail}; by image {images}" if images else cell.detail)

    return ours


def _precision(model: ModelEvidence) -> Cell:
    """Precision where all answers agree, clustered by image; Wilson's interval, as published."""
    cell = _share("self_consistency", "precision_unanimous")(model)
    wilson = model.metric("self_consistency", "precision_wilson", "pooled")
    if wilson is None or not cell.detail:
        return cell
    return cell._replace(detail=f"{cell.detail}; Wilson’s {interval(wilson, 1, scale=100)}")


def _absent(_: ModelEvidence) -> Cell:
    return missing()


QUANTITIES: tuple[Quantity, ...] = (
    Quantity("accuracy", "accuracy, all items", _share("model", "accuracy")),
    Quantity("head_r2", "R² of correctness on the top-k heads' attention, largest", _head_r2),
    Quantity(
        "supervised_attention", "accuracy of a tree ensemble on attention features",
        _supervised_attention,
    ),
    Quantity("auroc_attention", "AUROC: attention (H_s)", _auroc("spatial_entropy")),
    Quantity("auroc_logit_entropy", "AUROC: logit entropy", _auroc("logit_entropy")),
    Quantity("auroc_confidence", "AUROC: output confidence (P_tok)", _auroc("token_confidence")),
    Quantity("auroc_margin_only", "AUROC: decision margins only", _auroc("margin_only")),
    Quantity("auroc_probe", "AUROC: hidden-state probe, best layer", _best_probe),
    Quantity("auroc_last_layers", "AUROC: last five layers", _auroc("linear_last_layers")),
    Quantity("auroc_self_consistency", "AUROC: self-consistency", _auroc("self_consistency")),
    Quantity("vqa_output", "AUROC on all of VQA v2: output", _absent),
    Quantity("vqa_probe", "AUROC on all of VQA v2: probe", _absent),
    Quantity("textvqa_output", "AUROC on TextVQA: output", _auroc("token_confidence", "text")),
    Quantity("textvqa_probe", "AUROC on TextVQA: probe", _auroc(LINEAR_BEST, "text")),
    Quantity("peak_layer", "layer where the truth margin peaks", _peak_layer),
    Quantity("peak_margin", "truth margin at its peak, logits", _peak_margin),
    Quantity("mlp_share", "MLPs' share of the margin's growth", _share("mlp", "growth_share")),
    Quantity("masking_top", "hiding the 30% most attended patches", _masking),
    Quantity("ablation_layer", "layer of the ablation", _ablation_layer),
    Quantity("ablation_baseline", "accuracy before the ablation", _ablation_baseline),
    Quantity("ablation_top_5", "top 5 neurons", _effect("ablate", "top_5")),
    Quantity(
        "ablation_top_5_objects", "top 5 neurons, object identification",
        _effect("ablate", "top_5", OBJECT_IDENTIFICATION),
    ),
    Quantity("ablation_top_10", "top 10 neurons", _effect("ablate", "top_10")),
    Quantity("ablation_random_5", "5 random neurons", _effect("ablate", "random_5")),
    Quantity("ablation_random_500", "500 random neurons", _effect("ablate", "random_500")),
    Quantity("ablation_random_1000", "1,000 random neurons", _effect("ablate", "random_1000")),
    Quantity("ablation_random_2000", "2,000 random neurons", _effect("ablate", "random_2000")),
    Quantity("ablation_mlp", "a layer's MLP bypassed", _effect("ablate", "mlp_bypass")),
    Quantity(
        "sparse_share", "neurons the sparse probe keeps",
        _probe_share("sparse", "share_nonzero"),
    ),
    Quantity("sparse_accuracy", "accuracy of the sparse probe", _probe_share("sparse", "accuracy")),
    Quantity(
        "auroc_attention_trees", "AUROC: tree ensemble on attention features",
        _auroc("attention_trees"),
    ),
    Quantity("auroc_last_state", "AUROC: linear probe on the last layer", _last_state),
    Quantity("entropy_drop", "largest drop of H_s from layer to layer, nats", _entropy_drop),
)  # fmt: skip

POOLED_QUANTITIES: tuple[Quantity, ...] = (
    Quantity("r_clusters", "R(C_k)", _correlation("cluster_count_dbscan")),
    Quantity("r_entropy", "R(H_s)", _correlation("spatial_entropy")),
    Quantity("r_self_consistency", "R(S_SC)", _correlation("self_consistency")),
    Quantity(
        "precision_unanimous", "precision where S_SC = 1",
        _precision,
    ),
)  # fmt: skip

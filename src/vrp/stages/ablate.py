"""Silence dimensions of the residual stream: does the answer depend on what the probe reads?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.extract import answer_limits
from vrp.data.intervention_items import stratified_subset
from vrp.data.sharding import shard_items
from vrp.errors import InputError
from vrp.interventions.ablation import (
    AblationCondition,
    AblationSite,
    RankedNeurons,
    ablation_conditions,
)
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_manifest import read_manifest
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    check_same_model,
    load_model,
    read_judged_items,
    warn_skipped_items,
    with_revision,
    with_weights,
)
from vrp.running.outcomes import outcome, read_baseline_answers
from vrp.running.shard import Output, write_shard
from vrp.stats.bootstrap import seed_from
from vrp.study.context import StageContext
from vrp.tables.atomic_files import require_writable
from vrp.tables.columns import rows_table
from vrp.tables.interventions import ABLATE
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.vlm.residual_edits import Edit

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit, VlmInput
    from vrp.vlm.decode import ItemCapture
    from vrp.vlm.mlp_units import MlpUnits
    from vrp.vlm.model import VLM


class LayerProbe(NamedTuple):
    """What the probes of one layer that were fitted without one fold say."""

    neurons: RankedNeurons
    """Dimensions of the residual stream, by the sparse probe's weights."""
    step: NDArray[np.float64]
    """(d_model,) one standard deviation along the linear probe's direction."""
    has_weights: bool = True
    """Whether the sparse probe keeps any neuron."""


class FoldProbes(NamedTuple):
    """What the probes fitted without one fold say."""

    best_layer: int
    """The layer picked on the fold's training items."""
    layers: dict[int, LayerProbe]
    """By decoder layer."""


def run(context: StageContext) -> None:
    """Answer one shard of the ablation subset under every condition; write the ablate table.

    Top neurons of an item come from the probe that was fitted without the item's fold.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    study, model, ablate = context.study, context.model_config, context.study.ablate
    seed, output, max_new_tokens = (
        study.seed,
        context.output_path("ablate"),
        answer_limits(study.extract),
    )
    answers = context.input_paths("answers")
    predictions, neurons = context.input_path("predictions"), context.input_path("neurons")
    require_writable(output)
    recorded = read_manifest(context.input_path("manifest"), model)
    provenance = with_revision(context.provenance, recorded)
    subset = stratified_subset(
        read_judged_items(context.input_path("items")), ablate.items, seed=seed
    )
    if subset.is_empty():  # nothing is right or wrong that an intervention could change
        nothing = [Output(output, ABLATE)]
        write_shard(nothing, [], tuple, provenance=provenance, description=context.label)
        return
    frame = shard_items(subset, n_shards=context.n_shards, shard=context.shard)
    baseline = read_baseline_answers(answers, frame["item_id"].to_list())
    fold_of = read_folds(predictions)
    probes = read_probes(neurons)
    asked = {key: item for key, item in as_items(frame).items() if key in fold_of}
    warn_skipped_items("ablate", frame.height - len(asked), "no probe held them out")
    vlm, images = load_model(model, recorded), StudyImages(study.data)
    provenance = with_weights(provenance, vlm)
    check_same_model([*answers, predictions, neurons], provenance)
    conditions = ablation_conditions(ablate)
    check_sizes(conditions, vlm, probes.values())
    everyone = {key: item for key, item in as_items(subset).items() if key in fold_of}
    units = _mlp_units(
        vlm, conditions, probes.values(), fold_of,
        ItemBatches(vlm, everyone, images, batch_size=context.batch_size, max_new_tokens=1),
    )  # fmt: skip
    # An item's neurons come from probes that never saw its fold; so a batch holds one fold.
    edits: dict[int, list[tuple[AblationCondition, Edit]]] = {}
    parts: dict[int, ItemBatches] = {}
    for fold in sorted({fold_of[item_id] for item_id in asked}):
        if fold not in probes:
            raise InputError(f"{neurons}: has no fold {fold}; rerun `vrp probes`")
        of_fold = {layer: folds[fold] for layer, folds in units.items()}
        edits[fold] = [
            (condition, edit_of(condition, probes[fold], vlm, of_fold, seed=seed))
            for condition in conditions
            if is_told(condition, probes[fold], vlm.n_layers)
        ]
        items = {key: item for key, item in asked.items() if fold_of[key] == fold}
        if left_out := {c.name for c in conditions} - {c.name for c, _ in edits[fold]}:
            reason = f"the probe without their fold has no weights; not run: {_named(left_out)}"
            warn_skipped_items("ablate", len(items), reason)
        parts[fold] = ItemBatches(
            vlm, items, images, batch_size=context.batch_size, max_new_tokens=max_new_tokens
        )

    def compute(ids: Batch) -> BatchTables:
        from vrp.vlm.out_of_memory import split_to_fit

        fold = fold_of[ids[0]]

        def rows_of(some: slice) -> list[Mapping[str, Any]]:
            done = [edit for _, edit in edits[fold]]
            answers = answers_under(vlm, parts[fold].inputs(ids[some]), done, max_new_tokens)
            return [
                site_columns(condition, edit)
                | outcome(asked[capture.item_id], capture, baseline, study.scoring)
                for (condition, edit), captures in zip(edits[fold], answers, strict=True)
                for capture in captures
            ]

        return (rows_table(ABLATE, split_to_fit(ids, rows_of)),)

    write_shard(
        [Output(output, ABLATE)],
        [ids for batches in parts.values() for ids in batches.plan],
        compute,
        provenance=provenance,
        description=context.label,
        answers=lambda ids: len(ids) * len(edits[fold_of[ids[0]]]),
        unit="answer",
    )


def read_folds(path: Path) -> dict[str, int]:
    """Return the fold that held each item out.

    Raises:
        InputError: the table is missing or malformed, or an item is in two folds.
    """
    table = read_table(path, PREDICTIONS, columns=["fold"])
    folds = table.filter(pl.col("fold") >= 0).select("item_id", "fold").unique()
    doubled = folds.filter(pl.col("item_id").is_duplicated())["item_id"].sort()
    if len(doubled):
        raise InputError(f"{path}: item {doubled[0]!r} is in two folds; rerun `vrp probes`")
    if not folds.height:
        raise InputError(f"{path}: holds no item of any fold; rerun `vrp probes`")
    return dict(folds.iter_rows())


def read_probes(path: Path) -> dict[int, FoldProbes]:
    """Return what the sparse probes of each fold say, by fold.

    Raises:
        InputError: the table is missing or malformed, or a fold has not exactly one best layer.
    """
    table = read_table(path, NEURONS)
    probes: dict[int, FoldProbes] = {}
    for (fold,), of_fold in table.partition_by("fold", as_dict=True).items():
        best = of_fold.filter("best_layer")["layer"].unique().to_list()
        if len(best) != 1:
            raise InputError(
                f"{path}: fold {fold} has {len(best)} best layers, not one; rerun `vrp probes`"
            )
        layers = of_fold.partition_by("layer", as_dict=True)
        probes[int(fold)] = FoldProbes(
            best_layer=int(best[0]),
            layers={int(layer): _layer_probe(rows) for (layer,), rows in layers.items()},
        )
    return probes


def _layer_probe(rows: pl.DataFrame) -> LayerProbe:
    by_neuron = rows.sort("neuron")
    neurons = RankedNeurons(
        ranked=rows.sort("rank")["neuron"].to_numpy().astype(np.intp),
        mean=by_neuron["mean"].to_numpy(),
        norm=by_neuron["norm"].to_numpy().astype(np.float64),
    )
    step = by_neuron["step"].to_numpy().astype(np.float64)
    return LayerProbe(neurons, step, bool((by_neuron["weight"] != 0).any()))


def _mlp_units(
    vlm: "VLM",
    conditions: Sequence[AblationCondition],
    probes: Iterable[FoldProbes],
    fold_of: Mapping[str, int],
    batches: ItemBatches,
) -> "dict[int, dict[int, MlpUnits]]":
    """Layer → fold → the MLP's hidden units over the other folds' items of the subset; of layers
    where some are edited."""
    from vrp.vlm.mlp_units import measure_mlp_units

    best = {fold.best_layer for fold in probes}
    layers = {
        condition.layer(vlm.n_layers, best_layer=one)
        for condition in conditions
        if condition.site == "mlp"
        for one in best
    }
    if not layers:
        return {}
    # In the order of the plan: the same in every shard.
    folds = {item_id: fold_of[item_id] for item_id in batches.items}
    return measure_mlp_units(vlm, map(batches.inputs, batches.plan), sorted(layers), folds)


def is_told(condition: AblationCondition, probes: FoldProbes, n_layers: int) -> bool:
    """Whether the fold's probes tell what a condition does; without weights no neuron is a top one.

    Args:
        condition: one of `ablation_conditions`.
        probes: fitted without the items' fold; of a layer that they lack, `edit_of` tells.
        n_layers: decoder layers of the model.
    """
    probe = probes.layers.get(condition.layer(n_layers, best_layer=probes.best_layer))
    if not condition.reads_probe or probe is None:
        return True
    along = condition.dose is not None or condition.site == "mlp"
    return bool(probe.step.any()) if along else probe.has_weights


def _named(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more" if others else first


def check_sizes(
    conditions: Sequence[AblationCondition], vlm: "VLM", probes: Iterable[FoldProbes]
) -> None:
    """Refuse conditions that ask for more neurons, or another head, than the model has.

    Raises:
        InputError: naming the condition and what there is.
    """
    best = {fold.best_layer for fold in probes}
    for condition in conditions:
        if condition.head is not None and condition.head >= vlm.n_heads:
            raise InputError(
                f"ablate.conditions: {condition.name} asks for head {condition.head}, the model "
                f"has heads 0 to {vlm.n_heads - 1}"
            )
        for one in best:
            layer = condition.layer(vlm.n_layers, best_layer=one)
            if not 0 <= layer < vlm.n_layers:
                continue  # of the probes of another model, which is refused elsewhere
            width = vlm.n_neurons(condition.site, layer)
            if (n := condition.n_neurons(width)) > width:
                raise InputError(
                    f"ablate.conditions: {condition.name} asks for {n} neurons, the model has "
                    f"{width}"
                )


def edit_of(
    condition: AblationCondition,
    probes: FoldProbes,
    vlm: "VLM",
    units: "Mapping[int, MlpUnits]",
    *,
    seed: int,
) -> Edit:
    """Return the edit that a condition makes for the items of one fold.

    Args:
        condition: one of `ablation_conditions`.
        probes: fitted without the items' fold.
        vlm: the model.
        units: layer → hidden units of its MLP, of layers in which a condition edits some.
        seed: the study's seed.

    Raises:
        InputError: the probes are of a model of another size, or too few neurons are left to be
            drawn from.
    """
    layer = condition.layer(vlm.n_layers, best_layer=probes.best_layer)
    probe = probes.layers.get(layer)
    if probe is None or sorted(probe.neurons.ranked.tolist()) != list(range(vlm.d_model)):
        raise InputError(
            f"neurons table: layer {layer} does not list the model's {vlm.d_model} neurons; "
            "rerun `vrp probes` for this model"
        )
    n = condition.n_neurons(vlm.n_neurons(condition.site, layer))
    site = AblationSite(
        layer,
        _neurons_of_mlp(units[layer], probe) if condition.site == "mlp" else probe.neurons,
        n,
        condition.value,
        # Whatever the layer, which may differ between folds: a repeat is one set for all items.
        seed_from(seed, "ablate", condition.draw, condition.seed),
        condition.site,
        condition.head or 0,
        probe.step,
        condition.dose or 0.0,
    )
    edit = condition.edit(site)
    if edit.n_neurons != n:
        raise InputError(
            f"ablate.conditions: {condition.name} asks for {n} neurons, but only "
            f"{edit.n_neurons} are left to be drawn; ask for fewer"
        )
    return edit


def _neurons_of_mlp(units: "MlpUnits", probe: LayerProbe) -> RankedNeurons:
    """Rank an MLP's hidden units by how far each moves the state along the linear probe."""
    ranked = np.argsort(-units.toward(probe.step), kind="stable")
    return RankedNeurons(ranked, units.mean, units.size)


def answers_under(
    vlm: "VLM", inputs: "Sequence[VlmInput]", edits: Sequence[Edit], max_new_tokens: "AnswerLimit"
) -> "Iterator[list[ItemCapture]]":
    """Yield the answers of one batch under each edit.

    Its images are encoded, and the layers under an edit computed, once for all edits.
    """
    from vrp.vlm.batched_edits import Trunk
    from vrp.vlm.decode import prepare, run_batch

    prepared = prepare(vlm, inputs, max_new_tokens=max_new_tokens)
    trunk = Trunk(vlm, prepared, edits)
    for edit in edits:
        with trunk.under(edit):
            captures = run_batch(vlm, prepared, max_new_tokens=max_new_tokens, edits=[edit])
        yield captures


def site_columns(condition: AblationCondition, edit: Edit) -> dict[str, Any]:
    """Return the columns that say what was edited, where."""
    return {
        "condition": condition.name,
        "seed": condition.seed,
        "layer": edit.layer,
        "n_neurons": edit.n_neurons,
    }

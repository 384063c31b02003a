"""Silence dimensions of the residual stream: does the answer hang on what the probe reads?"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from vrp.config.ablate import AblateConfig, AblationCondition
from vrp.config.data import DataConfig
from vrp.config.models import ModelConfig
from vrp.config.sample import ScoringConfig
from vrp.data.item import Item
from vrp.data.sharding import shard_items
from vrp.data.subsets import keyed_seed, stratified_subset
from vrp.errors import InputError
from vrp.running.checkpoints import read_manifest
from vrp.running.finished_batches import Batch, BatchTables
from vrp.running.model_run import (
    ItemBatches,
    StudyImages,
    as_items,
    check_same_model,
    load_model,
    read_items,
    tell_left_out,
    with_revision,
)
from vrp.running.outcomes import outcome, read_undisturbed
from vrp.running.shard import Output, write_shard
from vrp.tables.columns import rows_table
from vrp.tables.files import read_table, require_writable
from vrp.tables.interventions import ABLATE
from vrp.tables.neurons import NEURONS
from vrp.tables.predictions import PREDICTIONS

if TYPE_CHECKING:
    from vrp.vlm.batching import AnswerLimit
    from vrp.vlm.decode import ItemCapture
    from vrp.vlm.loading import VLM
    from vrp.vlm.residual import Edit

_VALUES = {"zero": 0.0, "plus_100": 100.0, "minus_100": -100.0}


class LayerProbe(NamedTuple):
    """What one fold's sparse probe says of one layer."""

    ranked: np.ndarray
    """(d_model,) neurons, the largest absolute weight first."""
    mean: np.ndarray
    """(d_model,) mean activation of each neuron over the fold's training items."""


class FoldProbes(NamedTuple):
    """What the sparse probes fitted without one fold say."""

    best_layer: int
    """The layer picked on the fold's training items."""
    layers: dict[int, LayerProbe]
    """By decoder layer."""


class Ablation(NamedTuple):
    """One condition, worked out for one fold."""

    condition: str
    """Name in the table."""
    repeat: int
    """Repeat of a random condition; 0 otherwise."""
    layer: int
    """Decoder layer whose output is edited."""
    neurons: np.ndarray | None
    """Dimensions of the residual stream; None: the layer's whole MLP is bypassed."""
    value: float | np.ndarray = 0.0
    """What stands in for them: one value, or one for each."""


def run(
    *,
    seed: int,
    data: DataConfig,
    scoring: ScoringConfig,
    model: ModelConfig,
    ablate: AblateConfig,
    max_new_tokens: "AnswerLimit",
    manifest: Path,
    items: Path,
    answers: Sequence[Path],
    predictions: Path,
    neurons: Path,
    shard: int,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Answer one shard of the ablation subset under every condition; write the ablate table.

    Top neurons of an item come from the probe that was fitted without the item's fold.

    Args:
        seed: the study's seed; subset and random neurons derive from it.
        data: where the images are.
        scoring: when an answer is correct.
        model: the model's section of the config.
        ablate: items and conditions.
        max_new_tokens: longest answer, for all items or by task.
        manifest: the model's manifest.
        items: `items.parquet`.
        answers: all answers shards of the model.
        predictions: `predictions.parquet`, for the items' folds.
        neurons: `neurons.parquet`.
        shard: which shard, from 0.
        output: ablate shard to write.
        provenance: written into the table.

    Raises:
        InputError: an input is missing or does not fit; nothing is written then.
    """
    require_writable(output)
    recorded = read_manifest(manifest, model)
    provenance = with_revision(provenance, recorded)
    check_same_model([*answers, predictions, neurons], provenance)
    subset = stratified_subset(read_items(items), ablate.items, seed=seed)
    frame = shard_items(subset, n_shards=ablate.shards, shard=shard)
    undisturbed = read_undisturbed(answers, frame["item_id"].to_list())
    fold_of = read_folds(predictions)
    probes = read_probes(neurons)
    asked = {key: item for key, item in as_items(frame).items() if key in fold_of}
    tell_left_out("ablate", frame.height - len(asked), "no probe held them out")
    vlm = load_model(model, recorded)
    ablated = AblatedModel(vlm, ablate, StudyImages(data), seed, max_new_tokens)
    parts = {}
    for fold in sorted({fold_of[item_id] for item_id in asked}):
        if fold not in probes:
            raise InputError(f"{neurons}: has no fold {fold}; rerun `vrp probes`")
        parts[fold] = ablated.batches({k: item for k, item in asked.items() if fold_of[k] == fold})

    def compute(ids: Batch) -> BatchTables:
        from vrp.vlm.out_of_memory import split_to_fit

        fold = fold_of[ids[0]]

        def rows_of(some: slice) -> list[Mapping[str, Any]]:
            return [
                _site(ablation) | outcome(asked[capture.item_id], capture, undisturbed, scoring)
                for ablation, captures in ablated.answers(parts[fold], ids[some], probes[fold])
                for capture in captures
            ]

        return (rows_table(ABLATE, split_to_fit(ids, rows_of)),)

    n_runs = sum(condition.seeds for condition in ablate.conditions)
    write_shard(
        [Output(output, ABLATE)],
        [ids for batches in parts.values() for ids in batches.plan],
        compute,
        provenance=provenance,
        description=f"ablate {provenance.get('model', '')}",
        answers=lambda ids: len(ids) * n_runs,
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
    return LayerProbe(
        ranked=rows.sort("rank")["neuron"].to_numpy().astype(np.intp),
        mean=rows.sort("neuron")["mean"].to_numpy(),
    )


def ablations(
    condition: AblationCondition, probes: FoldProbes, *, n_layers: int, d_model: int, seed: int
) -> list[Ablation]:
    """Work a condition out for the items of one fold, once for each of its repeats.

    Args:
        condition: from the config.
        probes: fitted without the items' fold.
        n_layers: decoder layers of the model.
        d_model: width of its residual stream.
        seed: the study's seed.

    Raises:
        InputError: the probes are of a model of another size, or more neurons are asked for than
            there are.
    """
    layer = probes.best_layer
    if condition.layer is not None:
        layer = round(condition.layer * (n_layers - 1))
    if condition.neurons == "mlp":
        return [Ablation(condition.name, 0, layer, None)]
    probe = probes.layers.get(layer)
    if probe is None or sorted(probe.ranked.tolist()) != list(range(d_model)):
        raise InputError(
            f"neurons table: layer {layer} does not list the model's {d_model} neurons; "
            "rerun `vrp probes` for this model"
        )
    n = round((condition.share or 0) * d_model) if condition.count is None else condition.count
    if n > d_model:
        raise InputError(
            f"ablate.conditions: {condition.name} asks for {n} neurons, the model has {d_model}"
        )
    found = []
    for repeat in range(condition.seeds):
        chosen = probe.ranked[:n]
        if condition.neurons == "random":
            key = keyed_seed(seed, "ablate", layer, condition.name, repeat)
            chosen = np.sort(np.random.default_rng(key).permutation(d_model)[:n])
        value = probe.mean[chosen] if condition.value == "mean" else _VALUES[condition.value]
        found.append(Ablation(condition.name, repeat, layer, chosen, value))
    return found


class AblatedModel:
    """A model that answers with parts of its residual stream silenced."""

    def __init__(
        self,
        vlm: "VLM",
        ablate: AblateConfig,
        images: StudyImages,
        seed: int,
        max_new_tokens: "AnswerLimit",
    ) -> None:
        """Bind the model.

        Args:
            vlm: the model.
            ablate: the config.
            images: the study's images.
            seed: the study's seed.
            max_new_tokens: longest answer, for all items or by task.
        """
        self._vlm = vlm
        self._ablate = ablate
        self._images = images
        self._seed = seed
        self._max_new_tokens = max_new_tokens

    def batches(self, items: Mapping[str, Item]) -> ItemBatches:
        """Return items of one fold in the batches that they are answered in."""
        return ItemBatches(
            self._vlm,
            items,
            self._images,
            batch_size=self._ablate.batch_size,
            max_new_tokens=self._max_new_tokens,
        )

    def answers(
        self, batches: ItemBatches, ids: Sequence[str], probes: FoldProbes
    ) -> "Iterator[tuple[Ablation, list[ItemCapture]]]":
        """Yield the answers of one batch under each condition.

        Its images are encoded, and the layers under an edit computed, once for all conditions.
        """
        from vrp.vlm.decode import prepare, run_batch
        from vrp.vlm.trunk import Trunk

        planned = self._planned(probes)
        edits = [_edit(ablation) for ablation in planned]
        n = self._max_new_tokens
        prepared = prepare(self._vlm, batches.inputs(ids), max_new_tokens=n)
        trunk = Trunk(self._vlm, prepared, edits)
        for ablation, edit in zip(planned, edits, strict=True):
            with trunk.under(edit):
                captures = run_batch(self._vlm, prepared, max_new_tokens=n, edits=[edit])
            yield ablation, captures

    def _planned(self, probes: FoldProbes) -> list[Ablation]:
        return [
            ablation
            for condition in self._ablate.conditions
            for ablation in ablations(
                condition,
                probes,
                n_layers=self._vlm.n_layers,
                d_model=self._vlm.d_model,
                seed=self._seed,
            )
        ]


def _edit(ablation: Ablation) -> "Edit":
    from vrp.vlm.residual import MlpBypass, NeuronEdit

    if ablation.neurons is None:
        return MlpBypass(ablation.layer)
    return NeuronEdit(ablation.layer, ablation.neurons, ablation.value)


def _site(ablation: Ablation) -> dict[str, Any]:
    return {
        "condition": ablation.condition,
        "seed": ablation.repeat,
        "layer": ablation.layer,
        "n_neurons": 0 if ablation.neurons is None else len(ablation.neurons),
    }

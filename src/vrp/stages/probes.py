"""Fit probes of correctness to hidden states, attention and signals, with their guards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from vrp.config.margins import EquivalenceMargins
from vrp.config.probes import ProbesConfig
from vrp.errors import InputError
from vrp.estimates.estimate_rows import (
    EstimateRow,
    EvaluationItems,
    adjusted,
    not_captured_rows,
    permutation_rows,
    plain_row,
    reliability_rows,
    share_rows,
    with_reasons,
)
from vrp.probing.attention import (
    concatenate_maps,
    fit_attention_trees,
)
from vrp.probing.baselines import (
    answer_only,
    permute_labels,
    question_only,
    task_only,
)
from vrp.probing.crossfit import ProbeResult
from vrp.probing.folds import FoldPlan, ProbeItems, plan_folds
from vrp.probing.fusion import fit_fusion
from vrp.probing.labels import (
    BLIND_LINEAR_BEST,
    LINEAR,
    LINEAR_BEST,
    OUTPUT_FUSION,
    OUTPUT_FUSION_WITH_PROBE,
    PERMUTED_LINEAR_BEST,
)
from vrp.probing.linear import (
    chosen_layer_features,
    fit_linear,
    last_layers,
    nested_best_layer,
)
from vrp.probing.mlp import fit_mlp
from vrp.probing.sparse import fit_sparse, share_nonzero, share_of_top
from vrp.probing.sweep import Labelling, fit_layers_together
from vrp.signals.registry import SIGNALS, is_of_output
from vrp.signals.structural import FEATURE_NAMES
from vrp.stats.auroc import stratified_auroc
from vrp.study.context import StageContext
from vrp.tables.answers import ANSWERS
from vrp.tables.arrays import as_array, as_matrices
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import captured, is_captured
from vrp.tables.estimates import NOT_A_LAYER, POOLED, PROBES, WITHIN_STRATA
from vrp.tables.hidden import EMBED, written_hidden_table
from vrp.tables.items import ITEMS, read_asked_items
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_batches, read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.signals import signal_table

PROMPT_END = "prompt_end"
NEAR_BEST = 0.02
_ATTENTION_PROBES = ("attention_trees", "attention_mlp")
_NOT_FINITE = "non-finite hidden states or margins"
# Items whose attention maps are in memory at a time, before they are brought to one grid.
_ITEMS_AT_ONCE = 4096


@dataclass(frozen=True)
class Layers:
    """Hidden states of the used items at `prompt_end`, read layer by layer."""

    paths: tuple[Path, ...]
    """All shards."""
    schema: TableSchema
    """Their schema."""
    rows: NDArray[np.bool_]
    """(n_items of the study,) the items used, in the order of item_id."""

    @property
    def names(self) -> list[str]:
        """Decoder layers, first to last; the embedding is not one of them."""
        return [name for name in self.schema.columns.names[2:] if name != EMBED]

    def read(self, layer: str) -> NDArray[np.floating]:
        """(n_used, d_model), one column of the files and no other."""
        frame = read_table(self.paths, self.schema, columns=[layer])
        return _vectors(frame.filter(position=PROMPT_END)[layer])[self.rows]


@dataclass(frozen=True)
class Inputs:
    """Data that the probes of one model are fitted on, one row per used item."""

    items: ProbeItems
    layers: Layers
    blind_layers: Layers | None
    margins: NDArray[np.floating] | None
    """(n, n_layers) decision margins; None where they were not captured."""
    signals: pl.DataFrame
    """Signals of the used items."""
    questions: NDArray[np.object_]
    answers: NDArray[np.object_]
    maps: "Maps | None"
    """Attention maps; None where they were not captured or no probe wants them."""
    left_out: tuple[str, ...]
    """Reason for each item that is left out."""
    without_map: tuple[str, ...]
    """Reason for each used item that has no usable map."""


class Places(NamedTuple):
    """Where the used items that have a reference are."""

    used: NDArray[np.intp]
    """Rows among the used items."""
    evaluated: NDArray[np.intp]
    """Rows among those that probes are evaluated on."""

    @classmethod
    def of(cls, items: ProbeItems, evaluated: pl.Series) -> "Places":
        """Find them; `evaluated` holds sorted item ids."""
        used = np.flatnonzero(items.judged)
        return cls(used, np.searchsorted(evaluated.to_numpy(), items.item_id[used]))


class Maps(NamedTuple):
    """Attention maps of the used items."""

    features: NDArray[np.float32]
    """(n, d) the maps of all layers, brought to one grid; 0 in place of what is not finite."""
    usable: NDArray[np.bool_]
    """(n,) whether all of an item's maps are finite."""


def run(context: StageContext) -> None:
    """Fit and evaluate every probe of one model, on images that it was not fitted on.

    Items with non-finite hidden states are left out of every probe and counted. A probe whose
    inputs were not captured is skipped, and its rows say so.

    Raises:
        InputError: a table is missing, the tables hold different items, or too few images.
    """
    seed, probes = context.study.seed, context.study.probes
    answers, attention = context.input_paths("answers"), context.input_paths("attention")
    hidden, lens = context.input_paths("hidden"), context.input_paths("lens")
    table = read_table(context.input_path("signals"), signal_table())
    maps = attention if probes.supervised_attention else ()
    items, blind_hidden = context.input_path("items"), context.input_paths("blind/hidden")
    inputs = _read(table, items, answers, maps, hidden, lens, blind_hidden)
    if not inputs.items.judged.any():
        _write_nothing(context)
        return
    plan = plan_folds(
        inputs.items, n_folds=probes.folds, n_inner=probes.inner_folds, seed=str(seed)
    )
    judged = table.drop_nulls("correct")
    all_items = EvaluationItems.from_frame(
        judged,
        seed=seed,
        n_boot=probes.bootstrap,
        margins=EquivalenceMargins(auroc=context.study.metrics.auroc_margin),
    )
    # All probes have one plan: the scores of an item come from the same training items.
    permuted = _permuted_labels(inputs.items, probes, seed)
    labellings = [Labelling(inputs.items, plan), *permuted]
    by_layer, *null_by_layer = _fit_layers(inputs.layers, labellings, probes, "layers")
    fitted = fit_probes(inputs, plan, by_layer, probes)
    sparse_by_layer = _fit_sparse_layers(inputs, plan, probes)
    guards = _guards(inputs, plan, probes)

    places = Places.of(inputs.items, judged["item_id"])
    rows: list[EstimateRow] = []
    for layer, result in by_layer.items():
        layer_rows = _evaluate(LINEAR, result.scores, plan, all_items, places, layer=_number(layer))
        rows += with_reasons(layer_rows, inputs.left_out)
    for name, result in {**fitted, **guards}.items():
        more = inputs.without_map if name in _ATTENTION_PROBES else ()
        probe_rows = _evaluate(name, result.scores, plan, all_items, places)
        rows += with_reasons(probe_rows, (*inputs.left_out, *more))
    for name in not_captured_probes(inputs, probes):
        rows += not_captured_rows(name, all_items, correlation=False)
    rows += _permuted_rows(rows, permuted, null_by_layer, all_items, places)
    rows += _architecture_rows(rows, fitted[LINEAR_BEST], sparse_by_layer)

    prediction_columns = _predictions({**fitted, **guards}, inputs.items, plan)
    neuron_columns = _neurons(inputs, plan, sparse_by_layer, fitted[LINEAR_BEST])
    write_table(
        context.output_path("neurons"), NEURONS, neuron_columns, provenance=context.provenance
    )
    write_table(
        context.output_path("predictions"),
        PREDICTIONS,
        prediction_columns,
        provenance=context.provenance,
    )
    write_table(
        context.output_path("probes"), PROBES, adjusted(rows), provenance=context.provenance
    )


def _write_nothing(context: StageContext) -> None:
    """Write the tables of a study in which no answer is right or wrong: they have no rows."""
    for name, schema in (("neurons", NEURONS), ("predictions", PREDICTIONS), ("probes", PROBES)):
        nothing = schema.columns.empty_table()
        write_table(context.output_path(name), schema, nothing, provenance=context.provenance)


def fit_probes(
    inputs: Inputs, plan: FoldPlan, by_layer: Mapping[str, ProbeResult], probes: ProbesConfig
) -> dict[str, ProbeResult]:
    """Fit the probes that could be deployed or that stress-test a claim; name → result.

    Args:
        inputs: what they are fitted on.
        plan: the splits.
        by_layer: the linear probe of every layer, fitted with the same plan.
        probes: the `probes` section.
    """
    items = inputs.items
    best = nested_best_layer(by_layer, plan)
    features = chosen_layer_features(best, inputs.layers.read)
    deployable = {
        signal.name: inputs.signals[signal.name].to_numpy()
        for signal in SIGNALS.values()
        if signal.deployable and is_captured(inputs.signals[signal.name])
    }
    output = {name: values for name, values in deployable.items() if is_of_output(SIGNALS[name])}

    def fuse(signals: Mapping[str, NDArray], *, with_probe: bool = False) -> ProbeResult:
        probe = {LINEAR_BEST: best} if with_probe else {}
        return fit_fusion(signals, items, plan, probes=probe, penalties=probes.penalties)

    makers: dict[str, Callable[[], ProbeResult]] = {
        "linear_last_layers": lambda: last_layers(by_layer, n_layers=probes.last_layers),
        "sparse": lambda: fit_sparse(features, items, plan, penalty=probes.sparse_c),
        "fusion": lambda: fuse(deployable),
        OUTPUT_FUSION: lambda: fuse(output),
    }
    if best.stacked is not None:
        makers["fusion_with_probe"] = lambda: fuse(deployable, with_probe=True)
        makers[OUTPUT_FUSION_WITH_PROBE] = lambda: fuse(output, with_probe=True)
    if probes.mlp:
        makers["mlp"] = lambda: fit_mlp(features, items, plan)
    if (margins := inputs.margins) is not None:
        makers["margin_only"] = lambda: fit_linear(
            margins, items, plan, name="margin only", penalties=probes.penalties
        )
    if probes.supervised_attention and (maps := inputs.maps) is not None:
        makers |= _attention_makers(inputs, maps, plan)
    fitted = {LINEAR_BEST: best}
    for name in tqdm(makers, unit="probe", desc="probes", mininterval=1):
        fitted[name] = makers[name]()
    return fitted


def _attention_makers(
    inputs: Inputs, maps: Maps, plan: FoldPlan
) -> dict[str, Callable[[], ProbeResult]]:
    """The stress tests; an item without a usable map gets no score from them."""
    matrix = inputs.signals.select(FEATURE_NAMES).to_numpy()

    def of_usable(result: ProbeResult) -> ProbeResult:
        return replace(result, scores=np.where(maps.usable, result.scores, np.nan))

    return {
        "attention_trees": lambda: of_usable(fit_attention_trees(matrix, inputs.items, plan)),
        "attention_mlp": lambda: of_usable(
            fit_mlp(maps.features, inputs.items, plan, name="attention mlp")
        ),
    }


def not_captured_probes(inputs: Inputs, probes: ProbesConfig) -> list[str]:
    """Probes that the config asks for but whose inputs were not captured."""
    names = ["margin_only"] if inputs.margins is None else []
    if probes.supervised_attention and inputs.maps is None:
        names += _ATTENTION_PROBES
    return names


def _guards(inputs: Inputs, plan: FoldPlan, probes: ProbesConfig) -> dict[str, ProbeResult]:
    """Fit the baselines that can score without reading reliability; name → result."""
    items = inputs.items
    found = {
        "task_only": task_only(items, plan),
        "question_only": question_only(inputs.questions, items, plan),
        "answer_only": answer_only(inputs.answers, items, plan),
    }
    if inputs.blind_layers is not None:
        labelling = Labelling(items, plan)
        (blind,) = _fit_layers(inputs.blind_layers, [labelling], probes, "blank image")
        found[BLIND_LINEAR_BEST] = nested_best_layer(blind, plan)
    return found


def _permuted_labels(items: ProbeItems, probes: ProbesConfig, seed: int) -> list[Labelling]:
    """The items with permuted labels, each time with folds of their own.

    Labels are permuted before folds and layer are chosen: what leaks there would show here.
    """
    found = []
    for repeat in range(probes.permutations):
        key = f"{seed}/permutation/{repeat}"
        permuted = permute_labels(items, seed=key)
        plan = plan_folds(permuted, n_folds=probes.folds, n_inner=probes.inner_folds, seed=key)
        found.append(Labelling(permuted, plan))
    return found


def _permuted_rows(
    rows: Sequence[EstimateRow],
    permuted: Sequence[Labelling],
    by_layer: Sequence[Mapping[str, ProbeResult]],
    all_items: EvaluationItems,
    places: Places,
) -> list[EstimateRow]:
    """The best-layer probe fitted to permuted labels and evaluated on them: chance, or a leak."""
    areas = []
    for (items, plan), layers in zip(permuted, by_layer, strict=True):
        labels = all_items.correct.copy()
        labels[places.evaluated] = items.correct[places.used]
        scores, folds = _everywhere(nested_best_layer(layers, plan).scores, plan, labels, places)
        area = stratified_auroc(
            scores, labels, all_items.groups, all_items.strata,
            n_images=all_items.n_images, folds=folds,
        )  # fmt: skip
        areas.append(area.value)
    observed = next(
        row["value"]
        for row in rows
        if (row["predictor"], row["scope"], row["metric"]) == (LINEAR_BEST, WITHIN_STRATA, "auroc")
    )
    return permutation_rows(PERMUTED_LINEAR_BEST, areas, observed, n=len(places.used))


def _fit_layers(
    layers: Layers, labellings: Sequence[Labelling], probes: ProbesConfig, label: str
) -> list[dict[str, ProbeResult]]:
    bar = tqdm(layers.names, unit="layer", desc=f"linear probes, {label}", mininterval=1)
    matrices = ((name, layers.read(name)) for name in bar)
    return fit_layers_together(matrices, labellings, penalties=probes.penalties)


def _fit_sparse_layers(
    inputs: Inputs, plan: FoldPlan, probes: ProbesConfig
) -> dict[str, ProbeResult]:
    bar = tqdm(inputs.layers.names, unit="layer", desc="sparse probes", mininterval=1)
    return {
        name: fit_sparse(inputs.layers.read(name), inputs.items, plan, penalty=probes.sparse_c)
        for name in bar
    }


def _read(
    table: pl.DataFrame,
    items: Path,
    answers: Sequence[Path],
    attention: Sequence[Path],
    hidden: Sequence[Path],
    lens: Sequence[Path],
    blind_hidden: Sequence[Path],
) -> Inputs:
    """Read everything but the hidden states themselves, for the items that can be used."""
    questions = read_asked_items(items, ITEMS.only("question"))
    parsed = read_table(answers, ANSWERS.only("parsed", "note"))
    margins = read_table(lens, LENS.only("decision_margin"))
    map_notes = read_table(attention, ATTENTION.only("note")) if attention else None
    for name, other in (("items", questions), ("answers", parsed), ("lens", margins),
                        ("attention", map_notes)):  # fmt: skip
        if other is not None and not other["item_id"].equals(table["item_id"]):
            raise InputError(f"{name} and signals hold different items; rerun the metrics stage")
    # One set of items for all probes and guards, so that their differences are paired.
    usable = _finite_rows(hidden, len(table))
    margin_rows = None
    if is_captured(margins["decision_margin"]):
        margin_rows = as_array(margins["decision_margin"]).astype(np.float64)
        usable &= np.isfinite(margin_rows).all(axis=1)
    if blind_hidden:
        usable &= _finite_rows(blind_hidden, len(table))
    used = table.filter(usable)
    maps = _maps(attention, used["item_id"])
    without_map: list[str] = []
    if map_notes is not None and maps is not None:
        notes = map_notes.filter(usable)["note"].filter(~maps.usable)
        without_map = notes.fill_null("no usable attention map").to_list()
    return Inputs(
        items=ProbeItems.of(
            used["item_id"].to_numpy(), used["correct"].fill_null(False).to_numpy(),
            # Numbers sort as the images' names do, and faster.
            used["group"].rank("dense").to_numpy(), used["task"].to_numpy(),
            used["correct"].is_not_null().to_numpy(),
        ),
        layers=_layers(hidden, usable),
        blind_layers=_layers(blind_hidden, usable) if blind_hidden else None,
        margins=None if margin_rows is None else margin_rows[usable],
        signals=used,
        questions=questions.filter(usable)["question"].to_numpy(),
        answers=parsed.filter(usable)["parsed"].fill_null("").to_numpy(),
        maps=maps,
        left_out=tuple(
            parsed.filter(~usable & table["correct"].is_not_null().to_numpy())["note"]
            .fill_null(_NOT_FINITE)
            .to_list()
        ),
        without_map=tuple(without_map),
    )  # fmt: skip


def _maps(paths: Sequence[Path], item_ids: pl.Series) -> Maps | None:
    """The maps of these items on one grid, read a few thousand items at a time."""
    features, usable = np.empty((0, 0), np.float32), np.zeros(len(item_ids), dtype=bool)
    n_null = n_rows = 0
    columns = ("grid_h", "grid_w", "maps")
    for batch in read_batches(paths, ATTENTION, columns=columns, n_rows=_ITEMS_AT_ONCE):
        n_null, n_rows = n_null + batch["maps"].null_count(), n_rows + len(batch)
        some = batch.filter(pl.col("item_id").is_in(item_ids.implode()))
        if some.is_empty() or not is_captured(some["maps"]):
            continue
        maps = [
            matrix.reshape(-1, height, width)
            for matrix, height, width in zip(
                as_matrices(some["maps"]), some["grid_h"], some["grid_w"], strict=True
            )
        ]
        rows = item_ids.search_sorted(some["item_id"]).to_numpy()
        usable[rows] = [bool(np.isfinite(m).all()) for m in maps]
        found = concatenate_maps([np.nan_to_num(m) for m in maps])
        if not features.size:  # how wide the common grid is shows with the first maps
            features = np.empty((len(item_ids), found.shape[1]), np.float32)
        features[rows] = found
    if not n_rows or not captured("maps", n_null, n_rows):
        return None
    return Maps(features, usable)


def _layers(paths: Sequence[Path], rows: NDArray[np.bool_]) -> Layers:
    return Layers(tuple(paths), written_hidden_table(paths[0]), rows)


def _finite_rows(paths: Sequence[Path], n_items: int) -> NDArray[np.bool_]:
    """(n_items,) whether all layers at `prompt_end` are finite; one layer in memory at a time."""
    schema = written_hidden_table(paths[0])
    finite = np.ones(n_items, dtype=bool)
    for name in schema.columns.names[2:]:
        frame = read_table(paths, schema, columns=[name]).filter(position=PROMPT_END)
        if len(frame) != n_items:
            raise InputError(
                f"{paths[0].parent}: {len(frame)} items at {PROMPT_END}, {n_items} in the "
                "signals; rerun the extract stage"
            )
        finite &= np.isfinite(_vectors(frame[name])).all(axis=1)
    return finite


def _vectors(column: pl.Series) -> NDArray[np.floating]:
    return column.to_numpy().astype(np.float32, copy=False)


def _evaluate(
    name: str,
    scores: NDArray[np.floating],
    plan: FoldPlan,
    all_items: EvaluationItems,
    places: Places,
    *,
    layer: int = NOT_A_LAYER,
) -> list[EstimateRow]:
    everywhere, folds = _everywhere(scores, plan, all_items.correct, places)
    rows = reliability_rows(
        name, everywhere, all_items, layer=layer, correlation=False, folds=folds
    )
    if layer == NOT_A_LAYER:
        right = (everywhere > 0.5) == all_items.correct
        rows += share_rows(name, "accuracy", right, all_items, known=np.isfinite(everywhere))
    return rows


def _everywhere(
    scores: NDArray[np.floating], plan: FoldPlan, labels: NDArray[np.bool_], places: Places
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores and folds of all evaluated items; those that were left out have no score."""
    everywhere, folds = np.full(labels.size, np.nan), np.zeros(labels.size, dtype=np.int64)
    everywhere[places.evaluated] = scores[places.used]
    folds[places.evaluated] = plan.fold[places.used]
    return everywhere, folds


def _architecture_rows(
    rows: Sequence[EstimateRow], best: ProbeResult, sparse: Mapping[str, ProbeResult]
) -> list[EstimateRow]:
    """Fragile or distributed: how concentrated the probe's weight is, over neurons and layers."""
    # The sparse probe of the layer that the fold's training items picked.
    chosen = [(fit, sparse[fit.layer].fits[i].weights) for i, fit in enumerate(best.fits)]
    n = int(sum(fit.n_test for fit, _ in chosen))
    weights = [weight for _, weight in chosen if weight.size]
    found = []
    if weights:
        # Of a probe without any weight, the share is not defined.
        shares = [share for weight in weights if not math.isnan(share := share_of_top(weight, 5))]
        top = float(np.mean(shares)) if shares else math.nan
        kept = float(np.mean([share_nonzero(weight) for weight in weights]))
        found = [
            plain_row("sparse", POOLED, "weight_share_top_5", top, n=n),
            plain_row("sparse", POOLED, "share_nonzero", kept, n=n),
        ]
    by_layer = {
        row["layer"]: row["value"]
        for row in rows
        if (row["predictor"], row["scope"], row["metric"]) == (LINEAR, WITHIN_STRATA, "auroc")
    }
    defined = {layer: value for layer, value in by_layer.items() if math.isfinite(value)}
    if defined:
        peak = int(max(defined, key=lambda layer: defined[layer]))
        near = sum(value >= defined[peak] - NEAR_BEST for value in defined.values())
        found += [
            plain_row(LINEAR, WITHIN_STRATA, "layers_within_0.02", float(near), n=n),
            plain_row(LINEAR, WITHIN_STRATA, "peak_layer", float(peak), n=n),
        ]
    return found


def _number(layer: str) -> int:
    return int(layer.removeprefix("layer_"))


def _predictions(
    results: Mapping[str, ProbeResult], items: ProbeItems, plan: FoldPlan
) -> pl.DataFrame:
    """All probes' scores, one row an item and probe."""
    item_id = pl.Series("item_id", items.item_id.tolist(), pl.String)
    parts = []
    for name, result in results.items():
        layer_of_fold = np.full(plan.fold.max() + 1, NOT_A_LAYER, dtype=np.int32)
        for fit in result.fits:
            layer_of_fold[fit.fold] = _number(fit.layer) if fit.layer else NOT_A_LAYER
        part = {
            "item_id": item_id,
            "probe": pl.repeat(name, items.n_items, dtype=pl.String, eager=True),
            "layer": layer_of_fold[plan.fold],
            "fold": plan.fold.astype(np.int32),
            "score": result.scores.astype(np.float32),
        }
        parts.append(pl.DataFrame(part))
    return pl.concat(parts)


def _neurons(
    inputs: Inputs, plan: FoldPlan, sparse: Mapping[str, ProbeResult], best: ProbeResult
) -> pl.DataFrame:
    """Every neuron's weight in the sparse probes, one row a layer, fold and neuron."""
    best_layer = {fit.fold: fit.layer for fit in best.fits}
    parts = []
    for layer, result in sparse.items():
        matrix = inputs.layers.read(layer)
        for split, fit in zip(plan.splits, result.fits, strict=True):
            d_model = matrix.shape[1]
            weights = fit.weights if fit.weights.size else np.zeros(d_model)
            # The inverse of the order by |weight|; equal weights are ranked by their index.
            rank = np.empty(d_model, dtype=np.int32)
            rank[np.argsort(-np.abs(weights), kind="stable")] = np.arange(d_model)
            part = {
                "layer": np.full(d_model, _number(layer)),
                "fold": np.full(d_model, split.fold),
                "neuron": np.arange(d_model),
                "weight": weights,
                "rank": rank,
                "mean": matrix[split.train].mean(axis=0),
                "best_layer": np.full(d_model, layer == best_layer[split.fold]),
            }
            parts.append(pl.DataFrame(part))
    return pl.concat(parts)

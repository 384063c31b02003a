"""Probes: what a fitted model reads of correctness, in hidden states, attention and signals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from vrp.config.probes import ProbesConfig
from vrp.errors import InputError
from vrp.probing.attention import (
    ATTENTION_FEATURES,
    fit_attention_mlp,
    fit_attention_trees,
)
from vrp.probing.baselines import (
    answer_only,
    margin_only,
    permute_labels,
    question_only,
    task_only,
)
from vrp.probing.crossfit import ProbeResult
from vrp.probing.folds import FoldPlan, ProbeItems, plan_folds
from vrp.probing.fusion import fit_fusion
from vrp.probing.linear import chosen_layer_features, fit_layers, last_layers, nested_best_layer
from vrp.probing.mlp import fit_mlp
from vrp.probing.sparse import fit_sparse, share_nonzero, share_of_top
from vrp.signals.registry import SIGNALS
from vrp.stages.reliability import (
    NOT_A_LAYER,
    JudgedItems,
    Row,
    adjusted,
    plain_row,
    reliability_rows,
    share_rows,
)
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.estimates import PROBES
from vrp.tables.files import read_provenance, read_table, write_table
from vrp.tables.hidden import EMBED, written_hidden_table
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.signals import SIGNAL_TABLE

PROMPT_END = "prompt_end"
NEAR_BEST = 0.02


@dataclass(frozen=True)
class Layers:
    """Hidden states of the used items at one position, read layer by layer."""

    paths: tuple[Path, ...]
    """All shards."""
    schema: TableSchema
    """Their schema."""
    position: str
    """prompt_end or answer_end."""
    rows: NDArray[np.bool_]
    """(n_items of the study,) the items used, in the order of item_id."""

    @property
    def names(self) -> list[str]:
        """Decoder layers, first to last; the embedding is not one of them."""
        return [name for name in self.schema.columns.names[2:] if name != EMBED]

    def read(self, layer: str) -> NDArray[np.floating]:
        """(n_used, d_model), one column of the files and no other."""
        frame = read_table(self.paths, self.schema, columns=[layer])
        return _vectors(frame.filter(position=self.position)[layer])[self.rows]


@dataclass(frozen=True)
class Inputs:
    """What the probes of one model are fitted on; every array has one row per used item."""

    items: ProbeItems
    layers: Layers
    blind_layers: Layers | None
    margins: NDArray[np.floating]
    """(n, n_layers) decision margins."""
    signals: pl.DataFrame
    """Signals of the used items."""
    questions: NDArray[np.str_]
    answers: NDArray[np.str_]
    maps: list[NDArray[np.floating]]
    """(n_layers, grid_h, grid_w) each."""


def run(
    *,
    seed: int,
    probes: ProbesConfig,
    auroc_margin: float,
    items: Path,
    answers: Sequence[Path],
    attention: Sequence[Path],
    hidden: Sequence[Path],
    lens: Sequence[Path],
    signals: Path,
    blind_hidden: Sequence[Path],
    predictions: Path,
    neurons: Path,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Fit and judge every probe of one model.

    Args:
        seed: the study's seed (folds, bootstrap).
        probes: the `probes` section.
        auroc_margin: equivalence margin around 0.5, the same as for the signals.
        items: `items.parquet`.
        answers: all shards, as are `attention`, `hidden`, `lens` and `blind_hidden`.
        signals: `signals.parquet`.
        blind_hidden: hidden states with a blank image; empty where that was not run.
        predictions: out-of-fold scores, to write.
        neurons: the sparse probe's weights, to write.
        output: estimates, to write.
        provenance: written into the tables.

    Items with non-finite hidden states are left out of every probe and counted.

    Raises:
        InputError: a table is missing, the tables hold different items, or too few images.
    """
    table = read_table(signals, SIGNAL_TABLE)
    inputs = _read(table, items, answers, attention, hidden, lens, blind_hidden)
    plan = plan_folds(
        inputs.items, n_folds=probes.folds, n_inner=probes.inner_folds, seed=str(seed)
    )
    judged = JudgedItems.from_frame(
        table, seed=seed, n_boot=probes.bootstrap, auroc_margin=auroc_margin
    )
    by_layer = _fit_layers(inputs.layers, inputs.items, plan, probes, "layers")
    fitted = fit_probes(inputs, plan, by_layer, probes)
    sparse_by_layer = _fit_sparse_layers(inputs, plan, probes)
    guards = _guards(inputs, plan, probes)

    spread = _Spread(table["item_id"].to_numpy(), inputs.items.item_id)
    rows: list[Row] = []
    for layer, result in by_layer.items():
        rows += _judge("linear", result.scores, plan, judged, spread, layer=_number(layer))
    for name, result in fitted.items():
        rows += _judge(name, result.scores, plan, judged, spread)
    for name, result in guards.items():
        rows += _judge(name, result.scores, plan, judged, spread)
    rows += _permuted_rows(inputs, judged, spread, probes, seed)
    rows += _architecture_rows(rows, fitted["linear_best"], sparse_by_layer)

    prediction_columns = _predictions({**fitted, **guards}, inputs.items, plan)
    neuron_columns = _neurons(inputs, plan, sparse_by_layer, fitted["linear_best"])
    provenance = {**provenance, "revision": read_provenance(answers[0]).get("revision", "")}
    write_table(neurons, NEURONS, neuron_columns, provenance=provenance)
    write_table(predictions, PREDICTIONS, prediction_columns, provenance=provenance)
    write_table(output, PROBES, adjusted(rows), provenance=provenance)


def fit_probes(
    inputs: Inputs, plan: FoldPlan, by_layer: Mapping[str, ProbeResult], probes: ProbesConfig
) -> dict[str, ProbeResult]:
    """Every probe that could be deployed or that stress-tests a claim; name → result.

    Args:
        inputs: what they are fitted on.
        plan: the splits.
        by_layer: the linear probe of every layer, fitted with the same plan.
        probes: the `probes` section.
    """
    items = inputs.items
    best = nested_best_layer(by_layer, plan, name="linear_best")
    features = chosen_layer_features(best, inputs.layers.read)
    deployable = {
        signal.name: inputs.signals[signal.name].to_numpy()
        for signal in SIGNALS
        if signal.deployable
    }
    makers: dict[str, Callable[[], ProbeResult]] = {
        "linear_last_layers": lambda: last_layers(by_layer, n_layers=probes.last_layers),
        "sparse": lambda: fit_sparse(features, items, plan, penalty=probes.sparse_c),
        "margin_only": lambda: margin_only(inputs.margins, items, plan, penalties=probes.penalties),
        "fusion": lambda: fit_fusion(deployable, items, plan, penalties=probes.penalties).result,
        "fusion_with_probe": lambda: (
            fit_fusion(
                deployable, items, plan, probes={"linear_best": best}, penalties=probes.penalties
            ).result
        ),
    }
    if probes.mlp:
        makers["mlp"] = lambda: fit_mlp(features, items, plan)
    if probes.supervised_attention:
        matrix = inputs.signals.select(ATTENTION_FEATURES).to_numpy()
        makers["attention_trees"] = lambda: fit_attention_trees(matrix, items, plan)
        makers["attention_mlp"] = lambda: fit_attention_mlp(inputs.maps, items, plan)
    if best.stacked is None:
        del makers["fusion_with_probe"]
    fitted = {"linear_best": best}
    for name in tqdm(makers, unit="probe", desc="probes", mininterval=1):
        fitted[name] = makers[name]()
    return fitted


def _guards(inputs: Inputs, plan: FoldPlan, probes: ProbesConfig) -> dict[str, ProbeResult]:
    """What could be reached without reading reliability; name → result."""
    items = inputs.items
    found = {
        "task_only": task_only(items, plan),
        "question_only": question_only(inputs.questions, items, plan),
        "answer_only": answer_only(inputs.answers, items, plan),
    }
    if inputs.blind_layers is not None:
        blind = _fit_layers(inputs.blind_layers, items, plan, probes, "blank image")
        found["blind_linear_best"] = nested_best_layer(blind, plan)
    return found


def _permuted_rows(
    inputs: Inputs, judged: JudgedItems, spread: "_Spread", probes: ProbesConfig, seed: int
) -> list[Row]:
    """The best-layer probe fitted to permuted labels, and judged by those: chance, or a leak."""
    rows: list[Row] = []
    for repeat in range(probes.permutations):
        key = f"{seed}/permutation/{repeat}"
        items = permute_labels(inputs.items, seed=key)
        plan = plan_folds(items, n_folds=probes.folds, n_inner=probes.inner_folds, seed=key)
        by_layer = _fit_layers(inputs.layers, items, plan, probes, f"permuted labels {repeat}")
        best = nested_best_layer(by_layer, plan)
        labels = spread.labels(judged.correct, items.correct)
        name = "permuted_linear_best" + (f"_{repeat}" if repeat else "")
        rows += _judge(name, best.scores, plan, replace(judged, correct=labels), spread)
    return rows


def _fit_layers(
    layers: Layers, items: ProbeItems, plan: FoldPlan, probes: ProbesConfig, label: str
) -> dict[str, ProbeResult]:
    bar = tqdm(layers.names, unit="layer", desc=f"linear probes, {label}", mininterval=1)
    matrices = ((name, layers.read(name)) for name in bar)
    return fit_layers(matrices, items, plan, penalties=probes.penalties)


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
    asked = read_table(items, ITEMS, columns=["question"])
    said = read_table(answers, ANSWERS, columns=["parsed"])
    margins = read_table(lens, LENS, columns=["decision_margin"])
    looked = read_table(attention, ATTENTION, columns=["grid_h", "grid_w", "maps"])
    for name, other in (("items", asked), ("answers", said), ("lens", margins),
                        ("attention", looked)):  # fmt: skip
        if other["item_id"].to_list() != table["item_id"].to_list():
            raise InputError(f"{name} and signals hold different items; rerun the metrics stage")
    margin_rows = np.array(margins["decision_margin"].to_list(), dtype=np.float64)
    usable = np.isfinite(margin_rows).all(axis=1) & _finite_rows(hidden, len(table))
    if blind_hidden:
        usable &= _finite_rows(blind_hidden, len(table))
    used = table.filter(usable)
    maps = [
        np.array(row["maps"], dtype=np.float32).reshape(-1, row["grid_h"], row["grid_w"])
        for row in looked.filter(usable).iter_rows(named=True)
    ]
    return Inputs(
        items=ProbeItems.of(
            used["item_id"].to_numpy(), used["correct"].to_numpy(),
            used["group"].to_numpy(), used["task"].to_numpy(),
        ),
        layers=_layers(hidden, usable),
        blind_layers=_layers(blind_hidden, usable) if blind_hidden else None,
        margins=margin_rows[usable],
        signals=used,
        questions=asked.filter(usable)["question"].to_numpy().astype(str),
        answers=said.filter(usable)["parsed"].fill_null("").to_numpy().astype(str),
        maps=[np.nan_to_num(m) for m in maps],
    )  # fmt: skip


def _layers(paths: Sequence[Path], rows: NDArray[np.bool_]) -> Layers:
    return Layers(tuple(paths), written_hidden_table(paths[0]), PROMPT_END, rows)


def _finite_rows(paths: Sequence[Path], n_items: int) -> NDArray[np.bool_]:
    """(n_items,) whether the last layer at `prompt_end` is finite (a NaN upstream reaches it)."""
    schema = written_hidden_table(paths[0])
    last = schema.columns.names[-1]
    frame = read_table(paths, schema, columns=[last]).filter(position=PROMPT_END)
    if len(frame) != n_items:
        raise InputError(
            f"{paths[0].parent}: {len(frame)} items at {PROMPT_END}, {n_items} in the signals; "
            "rerun the extract stage"
        )
    return np.isfinite(_vectors(frame[last])).all(axis=1)


def _vectors(column: pl.Series) -> NDArray[np.floating]:
    return column.to_numpy().astype(np.float32, copy=False)


@dataclass(frozen=True)
class _Spread:
    """Puts scores of the used items among all items, with NaN for those left out."""

    all_ids: NDArray[Any]
    used_ids: NDArray[Any]

    def scores(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n_all,) scores, NaN for items left out."""
        return self._put(np.full(len(self.all_ids), np.nan), values)

    def folds(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n_all,) folds; those of items left out do not matter, as they have no score."""
        return self._put(np.zeros(len(self.all_ids), dtype=np.int64), values)

    def labels(self, everyone: NDArray[np.bool_], values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n_all,) labels, those of the used items replaced."""
        return self._put(everyone.copy(), values)

    def _put(self, into: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        into[np.searchsorted(self.all_ids, self.used_ids)] = values
        return into


def _judge(
    name: str,
    scores: NDArray[np.floating],
    plan: FoldPlan,
    judged: JudgedItems,
    spread: _Spread,
    *,
    layer: int = NOT_A_LAYER,
) -> list[Row]:
    everywhere = spread.scores(scores)
    rows = reliability_rows(
        name, everywhere, judged,
        layer=layer, correlation=False, strata=spread.folds(plan.fold),
    )  # fmt: skip
    if layer == NOT_A_LAYER:
        right = (everywhere > 0.5) == judged.correct
        rows += share_rows(name, "accuracy", right, judged, known=np.isfinite(everywhere))
    return rows


def _architecture_rows(
    rows: Sequence[Row], best: ProbeResult, sparse: Mapping[str, ProbeResult]
) -> list[Row]:
    """Fragile or distributed: how concentrated the probe's weight is, over neurons and layers."""
    chosen = [(fit, sparse[fit.layer].fits[i].weights) for i, fit in enumerate(best.fits)]
    n = int(sum(fit.n_test for fit, _ in chosen))
    weights = [weight for _, weight in chosen if weight.size]
    found = []
    if weights:
        top = float(np.nanmean([share_of_top(weight, 5) for weight in weights]))
        kept = float(np.mean([share_nonzero(weight) for weight in weights]))
        found = [
            plain_row("sparse", "pooled", "weight_share_top_5", top, n=n),
            plain_row("sparse", "pooled", "share_nonzero", kept, n=n),
        ]
    macro = {
        row["layer"]: row["value"]
        for row in rows
        if (row["predictor"], row["scope"], row["metric"]) == ("linear", "macro", "auroc")
    }
    peak = int(max(macro, key=lambda layer: macro[layer]))
    near = sum(value >= macro[peak] - NEAR_BEST for value in macro.values())
    return [
        *found,
        plain_row("linear", "macro", "layers_within_0.02", float(near), n=n),
        plain_row("linear", "macro", "peak_layer", float(peak), n=n),
    ]


def _number(layer: str) -> int:
    return int(layer.removeprefix("layer_"))


def _predictions(
    results: Mapping[str, ProbeResult], items: ProbeItems, plan: FoldPlan
) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {name: [] for name in PREDICTIONS.columns.names}
    for name, result in results.items():
        layer_of_fold = {
            fit.fold: _number(fit.layer) if fit.layer else NOT_A_LAYER for fit in result.fits
        }
        columns["item_id"] += items.item_id.tolist()
        columns["probe"] += [name] * items.n_items
        columns["layer"] += [layer_of_fold[fold] for fold in plan.fold.tolist()]
        columns["fold"] += plan.fold.tolist()
        columns["score"] += result.scores.tolist()
    return columns


def _neurons(
    inputs: Inputs, plan: FoldPlan, sparse: Mapping[str, ProbeResult], best: ProbeResult
) -> dict[str, Any]:
    best_layer = {fit.fold: fit.layer for fit in best.fits}
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in NEURONS.columns.names}
    for layer, result in sparse.items():
        matrix = inputs.layers.read(layer)
        for split, fit in zip(plan.splits, result.fits, strict=True):
            d_model = matrix.shape[1]
            weights = fit.weights if fit.weights.size else np.zeros(d_model)
            rank = np.empty(d_model, dtype=np.int32)
            rank[np.argsort(-np.abs(weights), kind="stable")] = np.arange(d_model)
            values = {
                "layer": np.full(d_model, _number(layer)),
                "fold": np.full(d_model, split.fold),
                "neuron": np.arange(d_model),
                "weight": weights,
                "rank": rank,
                "mean": matrix[split.train].mean(axis=0),
                "best_layer": np.full(d_model, layer == best_layer[split.fold]),
            }
            for name, array in values.items():
                parts[name].append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}

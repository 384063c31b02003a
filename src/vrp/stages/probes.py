"""Fit probes of correctness to hidden states, attention and signals, with their guards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.margins import EquivalenceMargins
from vrp.config.probes import ProbesConfig
from vrp.estimates.estimate_rows import (
    EstimateRow,
    EvaluationItems,
    adjusted,
    estimate_row,
    not_captured_rows,
    permutation_rows,
    plain_row,
    reliability_rows,
    share_rows,
    with_reasons,
)
from vrp.estimates.probe_inputs import Inputs, Layers, Maps, read_inputs
from vrp.probing.attention import fit_attention_trees
from vrp.probing.baselines import (
    answer_only,
    n_permutations,
    permute_labels,
    question_only,
    random_features,
    task_only,
)
from vrp.probing.crossfit import ProbeResult
from vrp.probing.distilled import fit_distilled
from vrp.probing.folds import FoldPlan, ProbeItems, plan_all_items, plan_folds
from vrp.probing.fusion import fit_fusion
from vrp.probing.labels import (
    ANSWER_END,
    BLIND_LINEAR_BEST,
    DISTILLED,
    LINEAR,
    LINEAR_BEST,
    MAHALANOBIS,
    OUTPUT_FUSION,
    OUTPUT_FUSION_WITH_PROBE,
    PERMUTED_LINEAR_BEST,
    RANDOM_FEATURES,
    TRANSFER,
)
from vrp.probing.linear import (
    chosen_layer_features,
    fit_linear,
    last_layers,
    nested_best_layer,
)
from vrp.probing.mahalanobis import fit_mahalanobis
from vrp.probing.mlp import fit_mlp
from vrp.probing.sparse import fit_sparse, share_nonzero, share_of_top
from vrp.probing.sweep import Labelling, fit_layers_together, fit_once, step_along
from vrp.progress import progress_over
from vrp.signals.registry import SIGNALS, is_of_output
from vrp.signals.structural import FEATURE_NAMES
from vrp.stats.auroc import auroc_estimate, stratified_auroc
from vrp.stats.estimate import Estimate
from vrp.study.context import StageContext
from vrp.tables.captured import is_captured
from vrp.tables.estimates import (
    NOT_A_LAYER,
    POOLED,
    PROBES,
    WITHIN_AGREEMENT,
    WITHIN_QUESTION_SCORE,
    WITHIN_STRATA,
)
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.saved_probe import SavedProbe, image_digests, write_saved_probe
from vrp.tables.signals import signal_table

NEAR_BEST = 0.02
_ATTENTION_PROBES = ("attention_trees", "attention_mlp")


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

    def spread(self, values: NDArray[np.floating], n_evaluated: int) -> NDArray[np.float64]:
        """(n_evaluated,) values of the used items among all that are evaluated; NaN elsewhere."""
        found = np.full(n_evaluated, np.nan)
        found[self.evaluated] = values[self.used]
        return found


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
    inputs = read_inputs(table, items, answers, maps, hidden, lens, blind_hidden)
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
    again = _other_folds(inputs.items, probes, seed)
    everything = _all_items(inputs.items, probes, seed)
    labellings = [Labelling(inputs.items, plan), everything, *again, *permuted]
    by_layer, on_all, *others = _fit_layers(inputs.layers, labellings, probes, "layers")
    saved = _fit_saved(inputs, everything, on_all, probes)
    fitted = fit_probes(inputs, plan, by_layer, probes)
    sparse_by_layer = _fit_sparse_layers(inputs, plan, probes)
    guards = _guards(inputs, plan, probes, seed)

    places = Places.of(inputs.items, judged["item_id"])
    question_scores = guards["question_only"].scores
    all_items = replace(all_items, difficulty={
        WITHIN_AGREEMENT: places.spread(inputs.agreement, len(judged)),
        WITHIN_QUESTION_SCORE: places.spread(question_scores, len(judged)),
    })  # fmt: skip
    rows: list[EstimateRow] = []
    for layer, result in by_layer.items():
        layer_rows = _evaluate(
            LINEAR, result.scores, plan, all_items, places, layer=_number(layer), accuracy=False
        )
        rows += with_reasons(layer_rows, inputs.left_out)
    for name, result in {**fitted, **guards}.items():
        more = inputs.without_map if name in _ATTENTION_PROBES else ()
        probe_rows = _evaluate(
            name, result.scores, plan, all_items, places, accuracy=result.is_probability
        )
        rows += with_reasons(probe_rows, (*inputs.left_out, *more))
    for name in not_captured_probes(inputs, probes):
        rows += not_captured_rows(name, all_items, correlation=False)
    rows += _fold_seed_rows(rows, again, others[: len(again)], all_items, places)
    rows += _permuted_rows(rows, permuted, others[len(again) :], all_items, places)
    rows += _transfer_rows(inputs, plan, fitted[LINEAR_BEST], all_items, places, probes)
    rows += _architecture_rows(rows, fitted[LINEAR_BEST], sparse_by_layer)

    prediction_columns = _predictions({**fitted, **guards}, inputs.items, plan)
    neuron_columns = _neurons(inputs, plan, sparse_by_layer, by_layer, fitted[LINEAR_BEST])
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
    write_saved_probe(context.output_path("saved_probe"), saved, provenance=context.provenance)


def _write_nothing(context: StageContext) -> None:
    """Write the files of a study in which no answer is right or wrong: tables without rows."""
    for name, schema in (("neurons", NEURONS), ("predictions", PREDICTIONS), ("probes", PROBES)):
        nothing = schema.columns.empty_table()
        write_table(context.output_path(name), schema, nothing, provenance=context.provenance)
    write_saved_probe(context.output_path("saved_probe"), None, provenance=context.provenance)


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
        MAHALANOBIS: lambda: fit_mahalanobis(features, items, plan),
        "fusion": lambda: fuse(deployable),
        OUTPUT_FUSION: lambda: fuse(output),
    }
    if best.stacked is not None:
        makers["fusion_with_probe"] = lambda: fuse(deployable, with_probe=True)
        makers[OUTPUT_FUSION_WITH_PROBE] = lambda: fuse(output, with_probe=True)
    if (states := inputs.answer_end) is not None:
        makers[ANSWER_END] = lambda: _fit_answer_end(states, items, plan, probes)
    consistency = inputs.signals["self_consistency"]
    if is_captured(consistency):
        share = consistency.to_numpy().astype(np.float64)
        makers[DISTILLED] = lambda: fit_distilled(features, share, items, plan)
    if probes.mlp:
        makers["mlp"] = lambda: fit_mlp(features, items, plan)
    if (margins := inputs.margins) is not None:
        makers["margin_only"] = lambda: fit_linear(
            margins, items, plan, name="margin only", penalties=probes.penalties
        )
    if probes.supervised_attention and (maps := inputs.maps) is not None:
        makers |= _attention_makers(inputs, maps, plan)
    fitted = {LINEAR_BEST: best}
    for name in progress_over(list(makers), "probes", unit="probe"):
        fitted[name] = makers[name]()
    return fitted


def _fit_answer_end(
    states: Layers, items: ProbeItems, plan: FoldPlan, probes: ProbesConfig
) -> ProbeResult:
    """The best layer's probe at the answer's end; an empty answer has none, and no score."""
    known = np.asarray(np.isfinite(states.read(states.names[0])).all(axis=1))

    def read(layer: str) -> NDArray[np.float32]:
        matrix = states.read(layer)
        matrix[~known] = 0.0
        return matrix

    part = plan.learning_from(known)
    (by_layer,) = fit_layers_together(
        ((name, read(name)) for name in states.names),
        [Labelling(items, part)],
        penalties=probes.penalties,
        overwrite=True,
    )
    best = nested_best_layer(by_layer, part)
    return replace(best, scores=np.where(known, best.scores, np.nan))


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


def _guards(
    inputs: Inputs, plan: FoldPlan, probes: ProbesConfig, seed: int
) -> dict[str, ProbeResult]:
    """Fit the baselines that can score without reading reliability; name → result."""
    items = inputs.items
    noise = random_features(items, inputs.layers.width, seed=str(seed))
    (of_noise,) = fit_layers_together(
        [("", noise)], [Labelling(items, plan)], penalties=probes.penalties, overwrite=True
    )
    found = {
        "task_only": task_only(items, plan),
        "question_only": question_only(inputs.questions, items, plan),
        "answer_only": answer_only(inputs.answers, items, plan),
        RANDOM_FEATURES: of_noise[""],
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
    n = n_permutations(items) if probes.permutations is None else probes.permutations
    for repeat in range(n):
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
    areas = [
        _best_layer_auroc(labelling, layers, all_items, places)
        for labelling, layers in zip(permuted, by_layer, strict=True)
    ]
    observed = _headline(rows)["value"]
    return permutation_rows(
        PERMUTED_LINEAR_BEST, areas, observed, n=len(places.used), n_groups=all_items.n_images
    )


def _headline(rows: Sequence[EstimateRow]) -> EstimateRow:
    """The AUROC within strata of the best layer's probe."""
    wanted = (LINEAR_BEST, WITHIN_STRATA, "auroc")
    return next(row for row in rows if (row["predictor"], row["scope"], row["metric"]) == wanted)


def _best_layer_auroc(
    labelling: Labelling,
    by_layer: Mapping[str, ProbeResult],
    all_items: EvaluationItems,
    places: Places,
) -> float:
    """AUROC within strata of the best layer's probe for one set of labels and folds."""
    items, plan = labelling
    labels = all_items.correct.copy()
    labels[places.evaluated] = items.correct[places.used]
    scores, folds = _everywhere(nested_best_layer(by_layer, plan).scores, plan, labels, places)
    return stratified_auroc(
        scores, labels, all_items.groups, all_items.strata,
        n_images=all_items.n_images, folds=folds,
    ).value  # fmt: skip


def _other_folds(items: ProbeItems, probes: ProbesConfig, seed: int) -> list[Labelling]:
    """The items with their true labels, in other folds."""
    sizes = {"n_folds": probes.folds, "n_inner": probes.inner_folds}
    return [
        Labelling(items, plan_folds(items, **sizes, seed=f"{seed}/folds/{again}"))
        for again in range(1, probes.fold_seeds)
    ]


def _fold_seed_rows(
    rows: Sequence[EstimateRow],
    again: Sequence[Labelling],
    by_layer: Sequence[Mapping[str, ProbeResult]],
    all_items: EvaluationItems,
    places: Places,
) -> list[EstimateRow]:
    """How far the best layer's AUROC depends on the folds: mean and range over fold seeds."""
    headline = _headline(rows)
    areas = [headline["value"]] + [
        _best_layer_auroc(labelling, layers, all_items, places)
        for labelling, layers in zip(again, by_layer, strict=True)
    ]
    if not again or not np.isfinite(areas).all():
        return []
    estimate = Estimate(
        float(np.mean(areas)), min(areas), max(areas), math.nan,
        headline["n"], headline["n_groups"], f"range over {len(areas)} fold seeds",
    )  # fmt: skip
    spread = float(np.std(areas, ddof=1))
    return [estimate_row(LINEAR_BEST, WITHIN_STRATA, "auroc_fold_seeds", estimate, se=spread)]


def _transfer_rows(
    inputs: Inputs,
    plan: FoldPlan,
    best: ProbeResult,
    all_items: EvaluationItems,
    places: Places,
    probes: ProbesConfig,
) -> list[EstimateRow]:
    """A probe that learnt from one split alone, judged on each split: the transfer matrix.

    It reads the layer that was picked for the fold, on images that it was not fitted on. Answers
    are compared within strata: the kinds of question of another split differ in how often they are
    answered right, and a probe that tells them apart knows nothing of the answer.
    """
    splits = np.array([item_id.rpartition("/")[0] for item_id in inputs.items.item_id.tolist()])
    names = sorted(set(splits.tolist()))
    if len(names) < 2:
        return []
    sources = {name: plan.learning_from(splits == name) for name in names}
    scores_from = _transfer_scores(inputs, sources, best, probes)
    of_evaluated = np.full(all_items.correct.size, "", dtype=splits.dtype)
    of_evaluated[places.evaluated] = splits[places.used]
    rows = []
    for source in names:
        scores, folds = _everywhere(scores_from[source], plan, all_items.correct, places)
        for target in names:
            here = of_evaluated == target
            area = stratified_auroc(
                scores[here], all_items.correct[here], all_items.groups[here],
                all_items.strata[here], n_images=all_items.n_images, folds=folds[here],
            )  # fmt: skip
            rows.append(
                estimate_row(
                    f"{TRANSFER}{source}", target, "transfer_auroc", auroc_estimate(area),
                    n_dropped=int(here.sum()) - area.n, se=area.se, df=area.df,
                )
            )  # fmt: skip
    return rows


def _transfer_scores(
    inputs: Inputs, sources: Mapping[str, FoldPlan], best: ProbeResult, probes: ProbesConfig
) -> dict[str, NDArray[np.float64]]:
    """Source → (n,) scores of its probe on the held-out items; each layer is read once."""
    scores = {source: np.full(inputs.items.n_items, math.nan) for source in sources}
    layers = sorted({fit.layer for fit in best.fits})
    for layer in progress_over(layers, "transfer", unit="layer"):
        matrix = inputs.layers.read(layer)
        folds = {fit.fold for fit in best.fits if fit.layer == layer}
        for source, plan in sources.items():
            some = plan._replace(splits=tuple(one for one in plan.splits if one.fold in folds))
            name = f"from {source}"
            found = fit_linear(matrix, inputs.items, some, name=name, penalties=probes.penalties)
            for split in some.splits:
                scores[source][split.test] = found.scores[split.test]
    return scores


def _all_items(items: ProbeItems, probes: ProbesConfig, seed: int) -> Labelling:
    """All items to fit on, for the probe that is saved."""
    return Labelling(items, plan_all_items(items, n_inner=probes.inner_folds, seed=str(seed)))


def _fit_saved(
    inputs: Inputs,
    everything: Labelling,
    by_layer: Mapping[str, ProbeResult],
    probes: ProbesConfig,
) -> SavedProbe | None:
    """The best layer's linear probe of all items; None where all are right, or all wrong.

    Layer and penalty are picked as for the folds: by the inner folds of what is fitted on.
    """
    (best,) = nested_best_layer(by_layer, everything.plan).fits
    fit = fit_once(
        inputs.layers.read(best.layer), everything, penalties=probes.penalties, overwrite=True
    )
    if fit is None:
        return None
    weights, intercept = fit.on_raw_features
    images = inputs.signals.filter(everything.items.judged)["group"].unique()
    return SavedProbe(
        layer=best.layer, position=inputs.layers.position, weights=weights, intercept=intercept,
        mean=fit.mean, scale=fit.scale, penalty=fit.penalty,
        images=np.unique(image_digests(images), axis=0), n_items=int(everything.items.judged.sum()),
    )  # fmt: skip


def _fit_layers(
    layers: Layers, labellings: Sequence[Labelling], probes: ProbesConfig, label: str
) -> list[dict[str, ProbeResult]]:
    bar = progress_over(layers.names, f"linear probes, {label}", unit="layer")
    matrices = ((name, layers.read(name)) for name in bar)
    return fit_layers_together(matrices, labellings, penalties=probes.penalties, overwrite=True)


def _fit_sparse_layers(
    inputs: Inputs, plan: FoldPlan, probes: ProbesConfig
) -> dict[str, ProbeResult]:
    bar = progress_over(inputs.layers.names, "sparse probes", unit="layer")
    return {
        name: fit_sparse(inputs.layers.read(name), inputs.items, plan, penalty=probes.sparse_c)
        for name in bar
    }


def _evaluate(
    name: str,
    scores: NDArray[np.floating],
    plan: FoldPlan,
    all_items: EvaluationItems,
    places: Places,
    *,
    layer: int = NOT_A_LAYER,
    accuracy: bool,
) -> list[EstimateRow]:
    everywhere, folds = _everywhere(scores, plan, all_items.correct, places)
    rows = reliability_rows(
        name, everywhere, all_items, layer=layer, correlation=False, folds=folds
    )
    if accuracy:
        right = (everywhere > 0.5) == all_items.correct
        rows += share_rows(name, "accuracy", right, all_items, known=np.isfinite(everywhere))
    return rows


def _everywhere(
    scores: NDArray[np.floating], plan: FoldPlan, labels: NDArray[np.bool_], places: Places
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores and folds of all evaluated items; those that were left out have no score."""
    everywhere = places.spread(scores, labels.size)
    folds = np.zeros(labels.size, dtype=np.int64)
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
    inputs: Inputs,
    plan: FoldPlan,
    sparse: Mapping[str, ProbeResult],
    linear: Mapping[str, ProbeResult],
    best: ProbeResult,
) -> pl.DataFrame:
    """What sparse and linear probes read of every neuron, one row a layer, fold and neuron."""
    best_layer = {fit.fold: fit.layer for fit in best.fits}
    judged = inputs.items.judged
    parts = []
    for layer, result in sparse.items():
        matrix = inputs.layers.read(layer)
        for split, fit, other in zip(plan.splits, result.fits, linear[layer].fits, strict=True):
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
                "norm": np.sqrt(np.square(matrix[split.train]).mean(axis=0)),
                "step": step_along(other.weights, matrix, judged, split.train),
                "best_layer": np.full(d_model, layer == best_layer[split.fold]),
            }
            parts.append(pl.DataFrame(part))
    return pl.concat(parts)

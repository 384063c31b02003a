"""Metrics, probes and effects recover what was planted in tables that no model made."""

import math

import numpy as np
import planted_study as planted
import polars as pl
import pytest
from scipy.stats import binomtest, entropy, mannwhitneyu, pearsonr
from sklearn.metrics import roc_auc_score
from stage_jobs import run_job

from vrp.config.effects import EffectsConfig
from vrp.config.metrics import MetricsConfig
from vrp.config.models import ModelConfig
from vrp.config.probes import ProbesConfig
from vrp.errors import InputError
from vrp.stats.clusters import numbered
from vrp.stats.proportion import clustered_share
from vrp.tables.arrays import as_array
from vrp.tables.attention import ATTENTION
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import METRICS, PROBES
from vrp.tables.heads import HEADS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

# The stages count values within rounding of each other as ties, scikit-learn does not: with a
# few thousand pairs of close values at most this much lies between them.
LEVELLED = 5e-5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return planted.write_planted_study(tmp_path_factory.mktemp("planted"))


def run_metrics(study, folder, config, **model):
    """Run the metrics stage on a planted study; its three tables go into the folder."""
    run_job(
        "metrics",
        {
            "items": study.items,
            "answers": [study.answers],
            "attention": [study.attention],
            "lens": [study.lens],
            "consistency": [study.consistency],
            "signals": folder / "signals.parquet",
            "heads": folder / "heads.parquet",
            "recipes": folder / "recipes.parquet",
            "metrics": folder / "metrics.parquet",
        },
        seed=0,
        metrics=config,
        model=ModelConfig(family="llava", checkpoint="zoo:llava", **model),
        provenance=planted.ORIGIN,
    )


@pytest.fixture(scope="module")
def judged(study, tmp_path_factory):
    """The metrics stage's three tables."""
    folder = tmp_path_factory.mktemp("metrics")
    run_metrics(study, folder, MetricsConfig(bootstrap=300, top_heads=(1, 5, 100)))
    return (
        read_table(folder / "metrics.parquet", METRICS),
        read_table(folder / "signals.parquet", signal_table()),
        read_table(folder / "heads.parquet", HEADS),
        folder / "signals.parquet",
    )


def row(table, **where):
    found = table.filter(**where)
    assert len(found) == 1, where
    return found.row(0, named=True)


@pytest.mark.parametrize("scope", ["within_strata", "macro", "pooled", *planted.TASKS])
def test_the_signal_that_knows_is_found(judged, scope):
    found = row(judged[0], predictor="decision_margin", metric="auroc", scope=scope)
    assert found["low"] < planted.MARGIN_AUROC < found["high"]
    assert found["low"] > 0.5
    assert found["p_adjusted"] >= found["p"]


def test_the_signal_that_knows_nothing_is_equivalent_to_chance(judged):
    for predictor in ("spatial_entropy", "cluster_count_dbscan"):
        area = row(judged[0], predictor=predictor, metric="auroc", scope="within_strata")
        assert area["low"] < 0.5 < area["high"]
        correlation = row(judged[0], predictor=predictor, metric="r", scope="pooled")
        assert correlation["p_equivalence"] < 0.05
    knows = row(judged[0], predictor="decision_margin", metric="r", scope="pooled")
    assert knows["p_equivalence"] > 0.5


def test_numbers_equal_scipy_and_scikit_learn(judged):
    table, signals, *_ = judged
    values, correct = signals["decision_margin"].to_numpy(), signals["correct"].to_numpy()
    pooled = row(table, predictor="decision_margin", metric="auroc", scope="pooled")
    assert pooled["value"] == pytest.approx(roc_auc_score(correct, values), abs=LEVELLED)
    r = row(table, predictor="decision_margin", metric="r_fisher", scope="pooled")
    expected = pearsonr(values, correct)
    assert r["value"] == pytest.approx(expected.statistic, abs=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (r["low"], r["high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)
    by_task = [
        roc_auc_score(part["correct"], part["decision_margin"])
        for part in signals.partition_by("task")
    ]
    macro = row(table, predictor="decision_margin", metric="auroc", scope="macro")
    assert macro["value"] == pytest.approx(np.mean(by_task), abs=LEVELLED)


def test_a_signal_reliable_when_low_is_turned_round(judged):
    table, signals, *_ = judged
    entropy = row(table, predictor="spatial_entropy", metric="auroc", scope="pooled")
    straight = roc_auc_score(signals["correct"], signals["spatial_entropy"])
    assert entropy["value"] == pytest.approx(1 - straight, abs=LEVELLED)


def test_the_precision_where_all_agree_is_that_of_its_figure(judged):
    """Interval clustered by image; the papers' Wilson interval beside it."""
    table, signals, *_ = judged
    agree = signals.filter(pl.col("self_consistency") >= 1)
    codes, n_images = numbered(agree["group"].to_numpy())
    share = clustered_share(agree["correct"].to_numpy(), codes, n_images=n_images)
    n_right = int(agree["correct"].sum())
    alone = binomtest(n_right, len(agree)).proportion_ci(0.95, method="wilson")
    for metric, low, high in (
        ("precision_unanimous", share.low, share.high),
        ("precision_wilson", alone.low, alone.high),
    ):
        found = row(table, predictor="self_consistency", metric=metric, scope="pooled")
        assert found["value"] == pytest.approx(n_right / len(agree))
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-6)
        assert (found["n"], found["n_groups"]) == (len(agree), n_images)


def test_accuracy_and_shares_are_the_planted_ones(judged, study):
    table = judged[0]
    accuracy = row(table, predictor="model", metric="accuracy", scope="pooled")
    assert accuracy["value"] == pytest.approx(study.correct.mean())
    assert row(table, predictor="model", metric="parse_rate", scope="pooled")["value"] == 1.0
    assert row(table, predictor="mlp", metric="growth_share", scope="pooled")["value"] == 0.75
    official = row(table, predictor="model", metric="accuracy_official", scope="existence")
    existence = row(table, predictor="model", metric="accuracy", scope="existence")
    assert official["value"] == existence["value"]


def test_heads_are_ranked_once_each(judged):
    heads = judged[2]
    assert sorted(heads["rank"]) == list(range(planted.N_LAYERS * planted.N_HEADS))
    by_rank = heads.sort("rank")["contribution"].abs()
    assert by_rank.is_sorted(descending=True)


def test_holm_runs_over_the_predictors_of_one_scope(judged):
    family = judged[0].filter(scope="within_strata", metric="auroc").filter(pl.col("p").is_finite())
    smallest = family.sort("p").row(0, named=True)
    assert smallest["p_adjusted"] == pytest.approx(min(1, smallest["p"] * len(family)))
    assert smallest["p_adjusted"] < 1e-6  # the planted signal: no floor of resampling holds it up


def test_p_agrees_with_a_test_that_knows_no_bootstrap(judged):
    """Mann-Whitney's p-value, on items that are independent here but for the image."""
    table, signals, *_ = judged
    right = signals.filter(pl.col("correct"))["image_mass"]
    wrong = signals.filter(~pl.col("correct"))["image_mass"]
    expected = mannwhitneyu(right, wrong).pvalue
    found = row(table, predictor="image_mass", metric="auroc", scope="pooled")
    assert found["p"] == pytest.approx(expected, rel=0.3)


def test_a_shard_that_lacks_items_is_refused(study, tmp_path):
    short = planted.write_planted_study(tmp_path / "short", n_images=10)
    with pytest.raises(InputError, match="lacks item"):
        run_job(
            "metrics",
            {
                "items": study.items,
                "answers": [short.answers],
                "attention": [study.attention],
                "lens": [study.lens],
                "consistency": [study.consistency],
                "signals": tmp_path / "signals.parquet",
                "heads": tmp_path / "heads.parquet",
                "recipes": tmp_path / "recipes.parquet",
                "metrics": tmp_path / "metrics.parquet",
            },
            seed=0,
            metrics=MetricsConfig(bootstrap=100),
            provenance={},
        )
    assert not (tmp_path / "signals.parquet").exists()


@pytest.fixture(scope="module")
def estimated(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("effects") / "effects.parquet"
    run_job(
        "effects",
        {
            "items": study.items,
            "answers": [study.answers],
            "mask": [study.mask],
            "ablate": [study.ablate],
            "effects": path,
        },
        seed=0,
        effects=EffectsConfig(),
        **planted.CONDITION_SECTIONS,
        provenance=planted.ORIGIN,
    )
    return read_table(path, EFFECTS)


@pytest.mark.parametrize(("intervention", "top"), [("mask", "top_30"), ("ablate", "top_5")])
def test_the_planted_loss_is_recovered(estimated, study, intervention, top):
    expected = -100 * planted.TOP_LOSS * study.correct.mean()
    for scope in ("all", "macro"):
        found = row(estimated, intervention=intervention, condition=top, scope=scope)
        assert found["low"] < expected < found["high"]
        assert found["p_equivalence"] > 0.5
    found = row(estimated, intervention=intervention, condition=top, scope="all")
    assert found["p_adjusted"] < 0.001
    assert found["baseline"] == pytest.approx(study.correct.mean())
    assert found["accuracy"] - found["baseline"] == pytest.approx(found["effect"] / 100)


def test_random_controls_do_nothing(estimated):
    found = row(estimated, intervention="mask", condition="random_30", scope="all")
    assert found["effect"] == pytest.approx(0, abs=1e-9)
    assert found["p"] == 1.0
    assert len(found["per_seed"]) == 5
    assert found["p_equivalence"] < 0.05
    assert math.isnan(found["p_mcnemar"])


def test_specificity_is_top_minus_random(estimated):
    contrast = row(estimated, intervention="ablate", condition="top_5 - matched_5", scope="all")
    top = row(estimated, intervention="ablate", condition="top_5", scope="all")
    random = row(estimated, intervention="ablate", condition="matched_5", scope="all")
    assert contrast["effect"] == pytest.approx(top["effect"] - random["effect"])
    assert contrast["high"] < 0


def test_object_identification_is_tested_against_random_only(estimated, study):
    scope = "object_identification"
    alone = row(estimated, intervention="ablate", condition="top_5", scope=scope)
    assert math.isnan(alone["p"])
    assert alone["baseline"] == 1.0
    contrast = row(estimated, intervention="ablate", condition="top_5 - matched_5", scope=scope)
    assert contrast["p"] < 0.001


def test_effects_of_a_model_without_answers_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="no answers were given for model 'toy'"):
        run_job(
            "effects",
            {
                "items": study.items,
                "answers": [],
                "mask": [study.mask],
                "ablate": [study.ablate],
                "effects": tmp_path / "effects.parquet",
            },
            seed=0,
            effects=EffectsConfig(),
            **planted.CONDITION_SECTIONS,
            provenance={},
        )


def fit(study, judged, folder, **settings):
    """The probes stage's three tables."""
    config = {"bootstrap": 200, "folds": 4, "penalties": (0.01, 0.1), "mlp": False}
    run_job(
        "probes",
        {
            "items": study.items,
            "answers": [study.answers],
            "attention": [study.attention],
            "hidden": [study.hidden],
            "lens": [study.lens],
            "signals": judged[3],
            "blind/hidden": [study.blind_hidden],
            "predictions": folder / "predictions.parquet",
            "neurons": folder / "neurons.parquet",
            "probes": folder / "probes.parquet",
            "saved_probe": folder / "probe.safetensors",
        },
        seed=0,
        probes=ProbesConfig(**config | {"supervised_attention": False} | settings),
        metrics=MetricsConfig(auroc_margin=0.05),
        provenance=planted.ORIGIN,
    )
    return (
        read_table(folder / "probes.parquet", PROBES),
        read_table(folder / "predictions.parquet", PREDICTIONS),
        read_table(folder / "neurons.parquet", NEURONS),
    )


@pytest.fixture(scope="module")
def probed(study, judged, tmp_path_factory):
    return fit(study, judged, tmp_path_factory.mktemp("probes"))


def auroc_of(table, predictor, *, scope="within_strata", layer=-1):
    return row(table, predictor=predictor, scope=scope, metric="auroc", layer=layer)


def test_the_planted_layer_is_found(probed):
    table, predictions, _ = probed
    for layer in range(planted.N_LAYERS):
        found = auroc_of(table, "linear", layer=layer)
        expected = planted.NEURON_AUROC if layer == planted.PLANTED_LAYER else 0.5
        assert found["value"] == pytest.approx(expected, abs=0.05)
    best = auroc_of(table, "linear_best")
    assert best["low"] < planted.NEURON_AUROC < best["high"] + 0.01
    layers = predictions.filter(probe="linear_best")["layer"]
    assert set(layers) == {planted.PLANTED_LAYER}
    assert row(table, predictor="linear", metric="layers_within_0.02")["value"] == 1


def test_the_planted_neuron_is_found_in_every_fold(probed):
    neurons = probed[2].filter(layer=planted.PLANTED_LAYER, rank=0)
    assert len(neurons) == 4
    assert set(neurons["neuron"]) == {planted.PLANTED_NEURON}
    assert neurons["best_layer"].all()
    assert (neurons["weight"] > 0).all()


def test_guards_and_permuted_labels_fall_to_chance(probed):
    table = probed[0]
    for guard in ("blind_linear_best", "permuted_linear_best"):
        found = auroc_of(table, guard)
        assert found["low"] < 0.5 < found["high"], guard
    assert auroc_of(table, "task_only")["value"] == 0.5  # within a task it has one value
    assert auroc_of(table, "question_only")["value"] == pytest.approx(0.5, abs=0.06)


def test_the_margin_probe_knows_what_the_margin_knows(probed):
    found = auroc_of(probed[0], "margin_only")
    assert found["low"] - 0.02 < planted.MARGIN_AUROC < found["high"] + 0.02
    fused = auroc_of(probed[0], "fusion_with_probe")
    assert fused["value"] > auroc_of(probed[0], "fusion")["value"]


def test_no_item_is_scored_by_a_probe_that_saw_its_image(probed, study):
    predictions = probed[1].filter(probe="linear_best").sort("item_id")
    images = np.repeat(np.arange(len(predictions) // 4), 4)
    folds = predictions["fold"].to_numpy()
    assert all(len(set(folds[images == image])) == 1 for image in np.unique(images))


def test_pooled_auroc_compares_within_folds_only(probed, study):
    predictions = probed[1].filter(probe="linear_best").sort("item_id")
    pairs = wins = 0.0
    for fold in range(4):
        here = (predictions["fold"] == fold).to_numpy()
        labels, scores = study.correct[here], predictions["score"].to_numpy()[here]
        n = labels.sum() * (~labels).sum()
        pairs, wins = pairs + n, wins + n * roc_auc_score(labels, scores)
    found = auroc_of(probed[0], "linear_best", scope="pooled")
    assert found["value"] == pytest.approx(wins / pairs, abs=LEVELLED)


def test_noise_as_wide_as_the_states_falls_to_chance(probed):
    found = auroc_of(probed[0], "random_features_only")
    assert found["low"] < 0.5 < found["high"]


def test_the_planted_neuron_is_read_at_equal_difficulty(probed):
    """All annotators agree here, and questions tell nothing: nothing is lost by matching."""
    for scope in ("within_agreement", "within_question_score"):
        found = auroc_of(probed[0], "linear_best", scope=scope)
        assert found["value"] == pytest.approx(planted.NEURON_AUROC, abs=0.03)


def test_the_best_probe_depends_little_on_the_folds(probed):
    found = row(probed[0], predictor="linear_best", metric="auroc_fold_seeds")
    assert found["low"] <= found["value"] <= found["high"]
    assert 0 < found["se"] < 0.01
    assert found["value"] == pytest.approx(auroc_of(probed[0], "linear_best")["value"], abs=0.01)
    assert found["method"] == "range over 5 fold seeds"


def test_probes_that_give_no_probability_have_no_accuracy(probed):
    accuracies = set(probed[0].filter(metric="accuracy")["predictor"])
    assert "linear_best" in accuracies
    assert not accuracies & {"mahalanobis", "distilled_consistency", "linear"}


def test_what_transfers_between_splits_is_shown(tmp_path):
    """In one split the neuron means the opposite: probes of the others read it upside down."""
    study = planted.write_planted_study(tmp_path / "study", n_images=200, opposite="spatial")
    run_metrics(study, tmp_path, MetricsConfig(bootstrap=100))
    table, _, _ = fit(study, (0, 0, 0, tmp_path / "signals.parquet"), tmp_path, permutations=0)
    expected = planted.NEURON_AUROC
    for source in planted.TASKS:
        for target in planted.TASKS:
            found = row(table, predictor=f"linear_from_toy/{source}", scope=f"toy/{target}",
                        metric="transfer_auroc")  # fmt: skip
            same = (source == "spatial") == (target == "spatial")
            assert found["value"] == pytest.approx(expected if same else 1 - expected, abs=0.04)
    # The states at the answer's end were planted, too, and captured here alone.
    assert auroc_of(table, "answer_end_linear")["value"] > 0.6


def test_the_map_is_averaged_over_the_models_own_layers(study, tmp_path):
    run_metrics(study, tmp_path, MetricsConfig(bootstrap=100), map_layers=(1, 3))
    found = read_table(tmp_path / "signals.parquet", signal_table())["spatial_entropy"]
    maps = as_array(read_table(study.attention, ATTENTION)["maps"]).astype(np.float64)
    expected = entropy(maps[:, [1, 3]].mean(axis=1), axis=-1)  # normalises
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-5)
    with pytest.raises(InputError, match="map_layers: the model has layers 0 to 3"):
        run_metrics(study, tmp_path, MetricsConfig(bootstrap=100), map_layers=(4,))


def test_permutation_brings_every_probe_to_chance(judged, tmp_path):
    """The whole stage on a study whose labels were permuted: nothing is left to find."""
    study = planted.write_planted_study(tmp_path / "study", n_images=200, permuted=True)
    run_metrics(study, tmp_path, MetricsConfig(bootstrap=100))
    table, _, _ = fit(
        study,
        (0, 0, 0, tmp_path / "signals.parquet"),
        tmp_path,
        mlp=True,
        supervised_attention=True,
    )
    judged_probes = table.filter(scope="within_strata", metric="auroc")
    assert len(judged_probes) >= 15
    # Bonferroni over the probes: three and a half standard errors either side.
    for found in judged_probes.filter(pl.col("predictor") != "task_only").iter_rows(named=True):
        standard_error = (found["high"] - found["low"]) / (2 * 1.96)
        assert abs(found["value"] - 0.5) < 3.5 * standard_error, found["predictor"]

"""Paired differences of AUROC between the best probe and what stands beside it."""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from vrp.findings.contrasts import beyond_output, probe_contrasts
from vrp.report.pooled import pooled_over_models

N = 1200


def planted(seed=0, probe_shift=2.0, signal_shift=1.0, n=N):
    """Signals and predictions whose AUROCs are Φ(shift/√2)."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.6
    ids = [f"{i:05d}" for i in range(n)]
    noise = {name: rng.normal(size=n) for name in ("probe", "signal", "entropy", "blind")}
    signals = pl.DataFrame(
        {
            "item_id": ids,
            "group": [f"g{i // 3}" for i in range(n)],
            "task": [("existence", "counting")[i % 2] for i in range(n)],
            "form": [("yes/no", "number")[i % 2] for i in range(n)],
            "correct": correct,
            "self_consistency": noise["signal"] + signal_shift * correct,
            "logit_entropy": -(noise["signal"] + signal_shift * correct),
            "spatial_entropy": noise["entropy"],
            "cluster_count_dbscan": rng.normal(size=n),
        }
    )
    scores = {
        "linear_best": expit(noise["probe"] + probe_shift * correct),
        "blind_linear_best": expit(noise["blind"]),
        "task_only": np.full(n, 0.6),
    }
    predictions = pl.concat(
        [
            pl.DataFrame(
                {"item_id": ids, "probe": name, "layer": 3, "fold": np.arange(n) // 3 % 5,
                 "score": values}
            )
            for name, values in scores.items()
        ]
    )  # fmt: skip
    return signals, predictions


def test_differences_recover_what_was_planted():
    found = probe_contrasts(*planted())
    truth = norm.cdf(2 / np.sqrt(2)) - norm.cdf(1 / np.sqrt(2))
    assert found["self_consistency"].low < truth < found["self_consistency"].high
    # Entropy is turned round, so that higher means right.
    assert found["logit_entropy"].value == pytest.approx(found["self_consistency"].value)
    blind = norm.cdf(2 / np.sqrt(2)) - 0.5
    assert found["blind_linear_best"].low < blind < found["blind_linear_best"].high
    assert found["blind_linear_best"].p_adjusted < 0.05


def test_the_value_is_scikit_learns_within_stratum_and_fold():
    signals, predictions = planted(n=600)
    wide = predictions.pivot("probe", index=("item_id", "fold"), values="score")
    joined = signals.join(wide, on="item_id")
    gaps, weights = [], []
    for _, task in joined.group_by("task", "form"):
        pairs, total = 0.0, {"linear_best": 0.0, "self_consistency": 0.0}
        for _, fold in task.group_by("fold"):
            right = int(fold["correct"].sum())
            weight = right * (len(fold) - right)
            pairs += weight
            for name in total:
                total[name] += weight * roc_auc_score(fold["correct"], fold[name])
        gaps.append((total["linear_best"] - total["self_consistency"]) / pairs)
        n_right = int(task["correct"].sum())
        weights.append(n_right * (len(task) - n_right) / (len(task) + 1))
    found = probe_contrasts(signals, predictions)["self_consistency"]
    assert found.value == pytest.approx(np.average(gaps, weights=weights))


def test_no_difference_is_covered():
    found = probe_contrasts(*planted(seed=3, probe_shift=1.0))["self_consistency"]
    assert found.low < 0 < found.high
    assert found.p_adjusted > 0.05


def test_what_states_add_to_the_output_is_the_gain_of_the_fusion():
    signals, predictions = planted()
    output = signals["self_consistency"].to_numpy()
    probe = predictions.filter(probe="linear_best")
    fused = {
        "output_fusion": expit(output),
        "output_fusion_with_probe": expit(output + 0.5 * logit(probe["score"].to_numpy())),
    }
    more = [
        probe.with_columns(probe=pl.lit(name), score=pl.Series(values))
        for name, values in fused.items()
    ]
    found = beyond_output(signals, pl.concat([predictions, *more]), margin=0.05)
    # A sum of x of shift 1 and half of one of shift 2: shift 2, variance 1.25.
    truth = norm.cdf(2 / np.sqrt(2 * 1.25)) - norm.cdf(1 / np.sqrt(2))
    assert found.low < truth < found.high
    assert found.p_equivalence > 0.5
    assert beyond_output(signals, predictions, margin=0.05) is None


def test_without_the_best_probe_there_is_nothing():
    signals, predictions = planted(n=60)
    assert probe_contrasts(signals, predictions.filter(pl.col("probe") != "linear_best")) == {}


def test_items_without_a_value_are_dropped_and_counted():
    signals, predictions = planted(n=300)
    signals = signals.with_columns(
        self_consistency=pl.when(pl.col("item_id") < "00010")
        .then(float("nan"))
        .otherwise(pl.col("self_consistency"))
    )
    found = probe_contrasts(signals, predictions)
    assert found["self_consistency"].n_dropped == 10
    assert found["self_consistency"].n == 290
    assert found["logit_entropy"].n_dropped == 0


def test_pooling_over_models_does_not_count_that_one_model_is_better():
    signals, _ = planted(n=600)
    # A worse model whose S_SC is lower throughout, and says nothing within it.
    worse = signals.with_columns(
        correct=pl.Series(np.random.default_rng(5).random(600) < 0.1),
        self_consistency=pl.Series(np.random.default_rng(6).normal(size=600) - 10),
    )
    both = [signals.with_columns(
        self_consistency=pl.Series(np.random.default_rng(7).normal(size=600))
    ), worse]  # fmt: skip
    found = pooled_over_models(dict(zip(("good", "bad"), both, strict=True)))
    assert found["self_consistency"].low < 0 < found["self_consistency"].high
    plain = np.corrcoef(
        np.concatenate([f["self_consistency"] for f in both]),
        np.concatenate([f["correct"] for f in both]),
    )[0, 1]
    assert plain > 0.3  # what plain pooling would have said
    known = pooled_over_models({"good": signals})["self_consistency"]
    assert known.low > 0.2
    assert pooled_over_models({}) == {}

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing.folds import ProbeItems, plan_folds
from vrp.probing.linear import (
    PENALTIES,
    chosen_layer_features,
    fit_linear,
    last_layers,
    nested_best_layer,
)
from vrp.probing.sweep import Labelling, fit_layers_together
from vrp.stats.auroc import auroc, auroc_estimate, clustered_auroc
from vrp.stats.clusters import numbered


def _hidden(made, n_dims=8, noise=0.0):
    """Hidden states whose first direction holds the evidence (scaled and shifted)."""
    random, n = np.random.default_rng(9), made.items.n_items
    states = random.normal(size=(n, n_dims))
    states[:, 0] = made.evidence + noise * random.normal(size=n)
    return states @ np.linalg.qr(random.normal(size=(n_dims, n_dims)))[0] * 30 + 100


@pytest.mark.slow
def test_recovers_the_planted_signal_within_its_interval(planted):
    made = planted(1500)
    plan = plan_folds(made.items, seed="s")
    result = fit_linear(_hidden(made), made.items, plan)
    existence = made.items.task == "existence"
    ceiling = auroc(made.evidence[existence], made.items.correct[existence])
    codes, n_images = numbered(made.items.group[existence])
    estimate = auroc_estimate(
        clustered_auroc(
            result.scores[existence], made.items.correct[existence], codes,
            n_images=n_images, name="existence", folds=plan.fold[existence],
        )
    )  # fmt: skip
    assert estimate.low <= ceiling <= estimate.high + 0.01
    assert estimate.value > 0.75
    assert ((result.scores > 0) & (result.scores < 1)).all()


def test_one_fold_equals_scikit_learn_by_hand(planted):
    made = planted()
    features = _hidden(made)
    plan = plan_folds(made.items, seed="s")
    result = fit_linear(features, made.items, plan, penalties=(0.01,))
    split = plan.splits[2]
    scaler = StandardScaler().fit(features[split.train])
    model = LogisticRegression(C=0.01, tol=1e-8, max_iter=5000)
    model.fit(scaler.transform(features[split.train]), made.items.correct[split.train])
    expected = model.predict_proba(scaler.transform(features[split.test]))[:, 1]
    assert result.scores[split.test] == pytest.approx(expected, abs=1e-5)
    assert result.fits[2].weights == pytest.approx(model.coef_[0], abs=1e-4)
    assert result.fits[2].n_test == split.test.size


@pytest.mark.slow
def test_held_out_labels_never_reach_the_fit(planted):
    made = planted()
    features = _hidden(made)
    plan = plan_folds(made.items, seed="s")
    before = fit_linear(features, made.items, plan)
    flipped = made.items.correct.copy()
    test = plan.splits[4].test
    flipped[test] = ~flipped[test]
    after = fit_linear(features, made.items.with_labels(flipped), plan)
    assert (after.scores[test] == before.scores[test]).all()
    assert (after.stacked[4] == before.stacked[4]).all()
    assert after.fits[4].inner_auroc == before.fits[4].inner_auroc
    other = plan.splits[1].test
    assert (after.scores[other] != before.scores[other]).any()


@pytest.mark.slow
def test_noise_is_at_chance(planted):
    made = planted(1200)
    plan = plan_folds(made.items, seed="s")
    noise = made.random.normal(size=(1200, 40))
    result = fit_linear(noise, made.items, plan)
    within = plan.fold * 2 + (made.items.task == "counting")
    found = clustered_auroc(
        result.scores, made.items.correct, np.arange(1200), n_images=1200, name="all", folds=within
    )
    estimate = auroc_estimate(found)
    assert estimate.low < 0.5 < estimate.high


@pytest.mark.slow
def test_row_order_does_not_matter(planted):
    made = planted(300)
    items, features = made.items, _hidden(made)
    shuffle = made.random.permutation(300)
    shuffled = ProbeItems.of(
        items.item_id[shuffle], items.correct[shuffle], items.group[shuffle], items.task[shuffle]
    )
    first = fit_linear(features, items, plan_folds(items, seed="s"))
    second = fit_linear(features[shuffle], shuffled, plan_folds(shuffled, seed="s"))
    assert (first.scores[shuffle] == second.scores).all()


def fit_layers(layers, items, plan, *, penalties=PENALTIES):
    (found,) = fit_layers_together(layers, [Labelling(items, plan)], penalties=penalties)
    return found


@pytest.mark.slow
def test_best_layer_is_chosen_inside_the_training_part(planted):
    made = planted(900)
    plan = plan_folds(made.items, seed="s")
    layers = {f"layer_{i:02d}": _hidden(made, noise=abs(i - 2) * 3.0) for i in range(5)}
    probes = fit_layers(iter(layers.items()), made.items, plan)
    best = nested_best_layer(probes, plan)
    assert {fit.layer for fit in best.fits} == {"layer_02"}
    assert (best.scores == probes["layer_02"].scores).all()
    # By hand: the choice is the argmax of the inner AUROC, fold by fold.
    for fold, fit in enumerate(best.fits):
        areas = {name: probe.fits[fold].inner_auroc for name, probe in probes.items()}
        assert fit.layer == max(areas, key=areas.get)
    reread = chosen_layer_features(best, layers.__getitem__)
    again = fit_linear(reread, made.items, plan)
    assert [fit.layer for fit in again.fits] == ["layer_02"] * 5
    assert again.scores == pytest.approx(best.scores, abs=0.01)


@pytest.mark.slow
def test_choosing_among_noise_layers_does_not_flatter(planted):
    made = planted(600)
    plan = plan_folds(made.items, seed="s")
    layers = [(f"layer_{i:02d}", made.random.normal(size=(600, 20))) for i in range(8)]
    probes = fit_layers(layers, made.items, plan, penalties=(1e-3,))
    within = plan.fold * 2 + (made.items.task == "counting")

    def area(probe):
        return auroc(probe.scores, made.items.correct, strata=within)

    best = nested_best_layer(probes, plan)
    assert area(best) < max(area(probe) for probe in probes.values())
    assert abs(area(best) - 0.5) < 3 * 0.5 / math.sqrt(600 / 2)


@pytest.mark.slow
def test_last_layers_are_the_mean_log_odds(planted):
    made = planted(300)
    plan = plan_folds(made.items, seed="s")
    layers = [(f"layer_{i:02d}", _hidden(made, noise=2.0 * i)) for i in range(3)]
    probes = fit_layers(layers, made.items, plan, penalties=(0.01,))
    both = last_layers(probes, n_layers=2)
    expected = (logit(probes["layer_01"].scores) + logit(probes["layer_02"].scores)) / 2
    assert logit(both.scores) == pytest.approx(expected)
    assert last_layers(probes, n_layers=1).scores == pytest.approx(probes["layer_02"].scores)
    with pytest.raises(InputError):
        last_layers(probes, n_layers=0)


@pytest.mark.slow
def test_pooled_out_of_fold_auroc_is_pulled_down_and_strata_mend_it(planted):
    # Why `strata` exist: with nothing to learn, a fold with fewer right items is scored higher.
    pooled, within = [], []
    for seed in range(12):
        made = planted(60, strength=0.0, seed=seed)
        items = ProbeItems.of(
            made.items.item_id, made.items.correct, made.items.group, np.zeros(60, dtype=int)
        )
        plan = plan_folds(items, seed=str(seed))
        result = fit_linear(np.zeros((60, 1)), items, plan, penalties=(1e-4,))
        pooled.append(auroc(result.scores, items.correct))
        within.append(auroc(result.scores, items.correct, strata=plan.fold))
    assert within == [0.5] * 12
    assert stats.ttest_1samp(pooled, 0.5, alternative="less").pvalue < 0.01


def test_one_class_gives_no_number(planted):
    made = planted(100)
    plan = plan_folds(made.items, seed="s")
    result = fit_linear(_hidden(made), made.items.with_labels(np.ones(100)), plan)
    assert np.isnan(result.scores).all()
    best = nested_best_layer({"layer_00": result}, plan)
    assert np.isnan(best.scores).all()


def test_one_wrong_image_leaves_one_fold_unfitted(planted):
    made = planted(100)
    correct = np.ones(100, dtype=bool)
    correct[made.items.group == made.items.group[0]] = False
    items = made.items.with_labels(correct)
    plan = plan_folds(items, seed="s")
    result = fit_linear(_hidden(made), items, plan)
    holds_it = int(plan.fold[0])
    for fit in result.fits:
        if fit.fold == holds_it:
            assert np.isnan(result.scores[plan.splits[holds_it].test]).all()
        else:
            assert np.isfinite(result.scores[plan.splits[fit.fold].test]).all()


def test_bad_features_are_refused(planted):
    made = planted(100)
    plan = plan_folds(made.items, seed="s")
    broken = np.zeros((100, 3))
    broken[7, 1] = np.nan
    with pytest.raises(InputError, match="row 7 are not finite"):
        fit_linear(broken, made.items, plan)
    with pytest.raises(InputError, match="found shape"):
        fit_linear(np.zeros((99, 3)), made.items, plan)
    with pytest.raises(InputError, match="positive"):
        fit_linear(np.zeros((100, 3)), made.items, plan, penalties=())
    small = planted(60)
    with pytest.raises(InputError, match="folds of 100 items"):
        fit_linear(np.zeros((60, 3)), small.items, plan)

"""All problems of a layer solved together, against scikit-learn's one by one."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.preprocessing import StandardScaler

from vrp.errors import InputError
from vrp.probing import sweep
from vrp.probing.baselines import permute_labels
from vrp.probing.folds import ProbeItems, plan_all_items, plan_folds
from vrp.probing.linear import fit_linear
from vrp.probing.sweep import Labelling, fit_layers_together, fit_once
from vrp.stats.auroc import auroc

PENALTIES = (0.001, 0.01, 0.1, 1.0)


def planted(n=400, n_dims=60, seed=0):
    random = np.random.default_rng(seed)
    known = random.normal(size=(n, 5))
    features = known @ random.normal(size=(5, n_dims)) + 3 * random.normal(size=(n, n_dims))
    features = features * random.gamma(1, size=n_dims) + 50 * random.normal(size=n_dims)
    correct = known[:, 0] + known[:, 1] + random.normal(size=n) + 0.8 > 0
    items = ProbeItems.of(
        np.arange(n), correct, np.arange(n) // 2, np.array(["a", "b"])[known[:, 2].astype(int) % 2]
    )
    return features.astype(np.float32), items


def labellings(items, n_permuted):
    found = [Labelling(items, plan_folds(items, seed="s"))]
    for repeat in range(n_permuted):
        permuted = permute_labels(items, seed=str(repeat))
        found.append(Labelling(permuted, plan_folds(permuted, seed=str(repeat))))
    return found


@pytest.mark.parametrize("n_dims", [60, 700])
def test_scores_are_scikit_learns(n_dims):
    features, items = planted(n_dims=n_dims)
    given = labellings(items, 2)
    found = fit_layers_together([("layer_00", features)], given, penalties=PENALTIES)
    for (labelled, plan), results in zip(given, found, strict=True):
        ours = results["layer_00"]
        theirs = fit_linear(features, labelled, plan, penalties=PENALTIES)
        # Standardised over all items rather than over each training part.
        assert ours.scores == pytest.approx(theirs.scores, abs=0.03)
        areas = [
            auroc(result.scores, labelled.correct, strata=plan.fold) for result in (ours, theirs)
        ]
        assert areas[0] == pytest.approx(areas[1], abs=0.003)
        for own, other in zip(ours.fits, theirs.fits, strict=True):
            assert own.inner_auroc == pytest.approx(other.inner_auroc, abs=0.01)
            assert (own.fold, own.n_test, own.layer) == (other.fold, other.n_test, "layer_00")


@pytest.mark.parametrize(("n_dims", "tolerance"), [(60, 1e-5), (700, 2e-3)])
def test_the_minimum_is_scikit_learns(monkeypatch, n_dims, tolerance):
    """One fold by hand: the same features, penalty and rows; also in single precision."""
    monkeypatch.setattr(sweep, "DOUBLE_UP_TO", 100)
    features, items = planted(n_dims=n_dims)
    labelling = labellings(items, 0)[0]
    (found,) = fit_layers_together([("layer", features)], [labelling], penalties=[0.01])
    split = labelling.plan.splits[0]
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    model = LogisticRegression(C=0.01, tol=1e-10, max_iter=10_000)
    model.fit(scaled[split.train], items.correct[split.train])
    expected = model.predict_proba(scaled[split.test])[:, 1]
    assert found["layer"].scores[split.test] == pytest.approx(expected, abs=tolerance)
    assert found["layer"].fits[0].weights == pytest.approx(model.coef_[0], abs=tolerance)


def test_what_is_fitted_beside_a_labelling_changes_nothing_of_it():
    features, items = planted()
    given = labellings(items, 3)
    alone = fit_layers_together([("l", features)], given[:1], penalties=PENALTIES)[0]["l"]
    together = fit_layers_together([("l", features)], given, penalties=PENALTIES)[0]["l"]
    assert together.scores == pytest.approx(alone.scores, abs=1e-5)


def test_stacked_scores_hold_no_label_of_the_held_out_fold():
    features, items = planted()
    labelling = labellings(items, 0)[0]
    before = fit_layers_together([("l", features)], [labelling], penalties=PENALTIES)[0]["l"]
    split = labelling.plan.splits[0]
    turned = items.correct.copy()
    turned[split.test] = ~turned[split.test]
    changed = Labelling(items.with_labels(turned), labelling.plan)
    after = fit_layers_together([("l", features)], [changed], penalties=PENALTIES)[0]["l"]
    assert after.stacked[0] == pytest.approx(before.stacked[0], abs=1e-5)
    assert after.fits[0].inner_auroc == before.fits[0].inner_auroc


def test_constant_and_equal_features_are_no_trouble():
    features, items = planted()
    features[:, 3] = 7.0
    features[:, 5] = features[:, 4]
    labelling = labellings(items, 0)[0]
    found = fit_layers_together([("l", features)], [labelling], penalties=PENALTIES)[0]["l"]
    theirs = fit_linear(features, items, labelling.plan, penalties=PENALTIES)
    assert found.scores == pytest.approx(theirs.scores, abs=0.03)


def test_one_class_gives_no_number():
    features, items = planted(n=60)
    every = items.with_labels(np.ones(60, dtype=bool))
    plan = plan_folds(items, seed="s")
    found = fit_layers_together([("l", features)], [Labelling(every, plan)], penalties=[0.1])
    assert np.isnan(found[0]["l"].scores).all()


def test_bad_input_is_refused():
    features, items = planted(n=60)
    labelling = labellings(items, 0)
    with pytest.raises(InputError, match=r"l: features must be \(60, d\), found shape \(50, 60\)"):
        fit_layers_together([("l", features[:50])], labelling, penalties=[0.1])
    features[3, 4] = np.nan
    with pytest.raises(InputError, match="finite"):
        fit_layers_together([("l", features)], labelling, penalties=[0.1])


@pytest.mark.parametrize("n_dims", [60, 700])
@pytest.mark.parametrize("judged", [np.ones(400, dtype=bool), np.arange(400) % 7 != 0])
def test_overwriting_the_features_changes_no_score(monkeypatch, n_dims, judged):
    monkeypatch.setattr(sweep, "DOUBLE_UP_TO", 50)  # as wide layers are fitted
    monkeypatch.setattr(sweep, "_ROWS_AT_ONCE", 32)
    features, every = planted(n_dims=n_dims)
    items = ProbeItems.of(every.item_id, every.correct, every.group, every.task, judged)
    given = labellings(items, 0)
    before = features.copy()
    kept = fit_layers_together([("l", features)], given, penalties=PENALTIES)[0]["l"]
    assert np.array_equal(features, before)
    spent = fit_layers_together([("l", features)], given, penalties=PENALTIES, overwrite=True)
    assert spent[0]["l"].scores == pytest.approx(kept.scores, abs=1e-6)
    assert not np.array_equal(features, before)


def test_a_constant_that_rounds_is_a_constant():
    """The mean of 0.1 is not 0.1: what is left must not be taken for a feature."""
    features, items = planted()
    features = features.astype(np.float64)
    features[:, 3] = 0.1
    labelling = Labelling(items, plan_all_items(items, seed="s"))
    found = fit_once(features, labelling, penalties=[0.1])
    assert found.scale[3] == 1.0
    assert found.weights[3] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n_dims", [60, 700])
def test_one_fit_of_all_items_is_scikit_learns(n_dims):
    features, items = planted(n_dims=n_dims)
    labelling = Labelling(items, plan_all_items(items, seed="s"))
    found = fit_once(features, labelling, penalties=[0.01])
    scaler = StandardScaler().fit(features.astype(np.float64))
    scaled = scaler.transform(features.astype(np.float64))
    model = LogisticRegression(C=0.01, tol=1e-10, max_iter=10_000).fit(scaled, items.correct)
    assert found.weights == pytest.approx(model.coef_[0], abs=1e-5)
    assert (found.mean, found.scale) == (
        pytest.approx(scaler.mean_), pytest.approx(scaler.scale_),
    )  # fmt: skip
    weights, intercept = found.on_raw_features
    expected = model.decision_function(scaled)
    assert features @ weights + intercept == pytest.approx(expected, abs=1e-3)


def test_its_penalty_is_picked_by_the_inner_folds():
    """By hand: the log loss of scikit-learn's fits, out of inner fold."""
    features, items = planted()
    plan = plan_all_items(items, n_inner=3, seed="s")
    found = fit_once(features, Labelling(items, plan), penalties=PENALTIES)
    (split,) = plan.splits
    scaled = StandardScaler().fit_transform(features.astype(np.float64))[split.train]
    labels = items.correct[split.train]
    losses = []
    for penalty in PENALTIES:
        chances = np.empty(labels.size)
        for fold in range(3):
            out = split.inner == fold
            model = LogisticRegression(C=penalty, max_iter=10_000).fit(scaled[~out], labels[~out])
            chances[out] = model.predict_proba(scaled[out])[:, 1]
        losses.append(sklearn_log_loss(labels, chances))
    assert found.penalty == PENALTIES[int(np.argmin(losses))]


def test_of_one_class_there_is_no_fit():
    features, items = planted(n=60)
    every = items.with_labels(np.ones(60, dtype=bool))
    labelling = Labelling(every, plan_all_items(every, seed="s"))
    assert fit_once(features, labelling, penalties=[0.1]) is None

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from vrp.errors import InputError
from vrp.probing.attention import (
    MIN_LEAF_ITEMS,
    N_TREES,
    area_resample,
    concatenate_maps,
    fit_attention_trees,
)
from vrp.probing.folds import plan_folds, sklearn_seed
from vrp.probing.mlp import fit_mlp
from vrp.signals.structural import FEATURE_NAMES
from vrp.stats.auroc import auroc

pytestmark = pytest.mark.slow


def test_area_resampling_by_hand():
    assert area_resample(np.array([[1.0, 2.0], [3.0, 4.0]]), (1, 1)).tolist() == [[10.0]]
    # 3 → 2 columns: the middle cell is cut in half.
    assert area_resample(np.array([[3.0, 2.0, 5.0]]), (1, 2)) == pytest.approx(
        np.array([[4.0, 6.0]])
    )
    # 1 → 2: a cell is spread evenly.
    assert area_resample(np.array([[1.0]]), (2, 2)).tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_area_resampling_keeps_mass_and_its_own_size():
    random = np.random.default_rng(0)
    maps = random.random((4, 10, 16))
    assert area_resample(maps, (12, 12)).sum(axis=(1, 2)) == pytest.approx(maps.sum(axis=(1, 2)))
    assert area_resample(maps, (10, 16)) == pytest.approx(maps)
    # An even map stays even.
    assert area_resample(np.full((10, 16), 1 / 160)) == pytest.approx(np.full((12, 12), 1 / 144))


def test_maps_of_different_grids_meet_on_one():
    left = np.zeros((2, 8, 16))
    left[:, :, :8] = 1 / 64  # all attention on the left half
    tall = np.zeros((2, 14, 10))
    tall[:, :, :5] = 1 / 70
    rows = concatenate_maps([left, tall])
    assert rows.shape == (2, 2 * 144)
    assert rows[0] == pytest.approx(rows[1], abs=1e-6)
    with pytest.raises(InputError, match="same layers"):
        concatenate_maps([left, tall[:1]])
    with pytest.raises(InputError, match="same layers"):
        concatenate_maps([])


def test_trees_find_a_planted_feature_and_nothing_in_noise(planted):
    made = planted(500)
    plan = plan_folds(made.items, n_folds=2, seed="s")
    features = made.random.normal(size=(500, len(FEATURE_NAMES)))
    within = 2 * plan.fold + (made.items.task == "counting")
    noise = fit_attention_trees(features, made.items, plan)
    assert abs(auroc(noise.scores, made.items.correct, strata=within) - 0.5) < 0.08
    features[:, 4] = np.abs(made.evidence)  # helps neither way: symmetric
    features[:, 6] = made.evidence
    features[5, 0] = np.nan  # an undefined feature is allowed
    found = fit_attention_trees(features, made.items, plan)
    assert auroc(found.scores, made.items.correct, strata=within) > 0.7
    for fit in found.fits:
        assert int(np.argmax(fit.weights)) == 6
        assert fit.weights.sum() == pytest.approx(1.0)
    again = fit_attention_trees(features, made.items, plan)
    assert (again.scores == found.scores).all()


def test_mlp_on_maps_finds_where_the_model_looked(planted):
    made = planted(300)
    plan = plan_folds(made.items, n_folds=2, seed="s")
    looked_left = made.items.correct ^ (made.random.random(300) < 0.1)
    maps = []
    for i, left in enumerate(looked_left):
        shape = (2, 6, 8) if i % 2 else (2, 8, 6)
        item = 0.2 * made.random.random(shape)
        half = shape[2] // 2
        item[:, :, :half] += 1.0 if left else 0.0
        item[:, :, half:] += 0.0 if left else 1.0
        maps.append(item / item.sum(axis=(1, 2), keepdims=True))
    result = fit_mlp(concatenate_maps(maps), made.items, plan, name="attention mlp")
    assert auroc(result.scores, made.items.correct, strata=plan.fold) > 0.8


def test_bad_features_are_refused(planted):
    made = planted(100)
    plan = plan_folds(made.items, seed="s")
    with pytest.raises(InputError, match="found shape"):
        fit_attention_trees(np.zeros((100, 10)), made.items, plan)
    with pytest.raises(InputError, match="infinite"):
        fit_attention_trees(np.full((100, 11), np.inf), made.items, plan)


def test_one_tree_at_a_time_is_the_ensemble(planted):
    """Scores and importances are scikit-learn's own, of all trees at once."""
    made = planted(200)
    features = made.random.normal(size=(200, len(FEATURE_NAMES)))
    features[:, 6] = made.evidence
    features[::7, 0] = np.nan
    plan = plan_folds(made.items, n_folds=2, seed="s")
    found = fit_attention_trees(features, made.items, plan)
    for split, fit in zip(plan.splits, found.fits, strict=True):
        model = ExtraTreesClassifier(
            n_estimators=N_TREES, min_samples_leaf=MIN_LEAF_ITEMS,
            random_state=sklearn_seed("probe", plan.seed, "attention trees", split.fold),
        )  # fmt: skip
        model.fit(features[split.train], made.items.correct[split.train])
        scores = model.predict_proba(features[split.test])[:, 1]
        np.testing.assert_array_equal(found.scores[split.test], scores)
        np.testing.assert_allclose(fit.weights, model.feature_importances_, rtol=1e-12)

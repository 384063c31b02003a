import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from vrp.signals import heads


def test_heads_are_ranked_by_absolute_mean():
    contributions = np.array([[[1.0, -4.0], [2.0, 0.0]], [[1.0, 0.0], [4.0, 0.0]]])
    ranking = heads.rank_heads(contributions)
    # Means 1, −2, 3, 0.
    assert ranking.order.tolist() == [2, 1, 0, 3]
    np.testing.assert_array_equal(ranking.mean_contribution, [[1.0, -2.0], [3.0, 0.0]])


def test_ranking_leaves_out_items_that_are_not_finite():
    contributions = np.ones((3, 1, 2))
    contributions[0, 0, 1] = np.inf
    contributions[2, 0, 1] = 3.0
    ranking = heads.rank_heads(contributions)
    assert ranking.order.tolist() == [1, 0]
    with pytest.raises(ValueError, match="no item"):
        heads.rank_heads(np.full((2, 1, 1), np.nan))


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((120, 15)) * rng.uniform(0.01, 100, 15)
    correct = (features[:, 3] / features[:, 3].std() + rng.standard_normal(120) > 0).astype(float)
    return features, correct, rng.permutation(15)


def test_r2_equals_scikit_learn(noisy):
    features, correct, order = noisy
    ks = (1, 2, 5, 15)
    result = heads.top_head_r2(features, correct, order, ks)
    for k, r2, adjusted in zip(ks, result.r2, result.adjusted_r2, strict=True):
        chosen = features[:, order[:k]]
        expected = LinearRegression().fit(chosen, correct).score(chosen, correct)
        assert r2 == pytest.approx(expected, abs=1e-10)
        assert adjusted == pytest.approx(1 - (1 - expected) * 119 / (119 - k), abs=1e-10)
    assert (np.diff(result.r2) >= 0).all()


def test_r2_with_several_features_a_head(noisy):
    features, correct, order = noisy
    stacked = np.stack([features, features**2], axis=2)
    chosen = stacked[:, order[:3]].reshape(120, 6)
    expected = LinearRegression().fit(chosen, correct).score(chosen, correct)
    assert heads.top_head_r2(stacked, correct, order, [3]).r2[0] == pytest.approx(expected)


def test_r2_finds_what_was_planted_and_adjusted_r2_does_not_reward_noise():
    rng = np.random.default_rng(2)
    correct = rng.integers(0, 2, 400).astype(float)
    features = rng.standard_normal((400, 100))
    noise = heads.top_head_r2(features, correct, np.arange(100), [100])
    assert noise.r2[0] == pytest.approx(100 / 399, abs=0.08)
    assert abs(noise.adjusted_r2[0]) < 0.1
    features[:, 40] = 2.0 - 3.0 * correct
    found = heads.top_head_r2(features, correct, np.roll(np.arange(100), -40), [1])
    assert found.r2[0] == pytest.approx(1.0)


def test_constant_and_repeated_features_add_no_rank():
    rng = np.random.default_rng(3)
    signal, correct = rng.standard_normal(50), rng.integers(0, 2, 50)
    constant = np.full(50, 0.1)
    features = np.column_stack([signal, constant, signal, np.zeros(50)])
    # The constant's mean is rounded, so that centring does not make it zero.
    assert min(features.std(axis=0)[1], constant.std()) > 0
    result = heads.top_head_r2(features, correct, np.arange(4), [1, 4])
    assert result.r2[0] == pytest.approx(result.r2[1])
    assert result.adjusted_r2[0] == pytest.approx(result.adjusted_r2[1])


def test_items_with_a_missing_feature_leave_every_fit(noisy):
    features, correct, order = noisy
    broken = features.copy()
    broken[7, order[4]] = np.nan
    result = heads.top_head_r2(broken, correct, order, [1, 5])
    keep = np.arange(120) != 7
    expected = heads.top_head_r2(features[keep], correct[keep], order, [1, 5])
    assert result.n_items == 119
    np.testing.assert_allclose(result.r2, expected.r2)
    # A head that no k reaches may be missing.
    assert heads.top_head_r2(broken, correct, order, [1, 4]).n_items == 120


def test_r2_where_there_is_nothing_to_fit(noisy):
    features, _, order = noisy
    assert np.isnan(heads.top_head_r2(features, np.ones(120), order, [1]).r2).all()
    few = heads.top_head_r2(features[:3], [0, 1, 1], order, [5])
    assert np.isnan(few.adjusted_r2).all()
    for ks in ([], [0], [16]):
        with pytest.raises(ValueError, match="numbers of heads"):
            heads.top_head_r2(features, np.ones(120), order, ks)
    with pytest.raises(ValueError, match="do not fit"):
        heads.top_head_r2(features, np.ones(3), order, [1])


def test_the_null_of_an_r2_is_what_as_many_regressors_explain_of_nothing():
    rng = np.random.default_rng(3)
    correct = rng.integers(0, 2, 400).astype(float)
    features = rng.standard_normal((400, 20))
    permuted = np.column_stack([rng.permutation(correct) for _ in range(100)])
    noise = heads.top_head_r2(features, correct, np.arange(20), [1, 20], permuted=permuted)
    # The expected R² of k regressors of noise is k/(n − 1).
    assert noise.null_r2 == pytest.approx([1 / 399, 20 / 399], rel=0.3)
    assert (noise.p > 0.01).all()
    features[:, 0] += correct
    told = heads.top_head_r2(features, correct, np.arange(20), [1], permuted=permuted)
    assert told.p[0] == pytest.approx(1 / 101)
    one = features[:, :1]
    expected = LinearRegression().fit(one, permuted[:, 0]).score(one, permuted[:, 0])
    found = heads.top_head_r2(features, permuted[:, 0], np.arange(20), [1])
    assert found.r2[0] == pytest.approx(expected)

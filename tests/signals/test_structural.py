import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import DBSCAN

from vrp.signals import structural
from vrp.signals.structural import MapProblem


def one_hot(n_tokens, index):
    values = np.zeros(n_tokens)
    values[index] = 1.0
    return values


def normalised(values):
    values = np.asarray(values, dtype=np.float64)
    return values / values.sum()


def drawn(rows):
    """Turn a drawing into a grid of ones and zeros."""
    return np.array([[1.0 if cell == "#" else 0.0 for cell in row] for row in rows])


def positive_maps(min_size=2, max_size=60):
    return arrays(
        np.float64,
        st.integers(min_size, max_size),
        elements=st.floats(1e-6, 1.0, allow_nan=False),
    ).map(normalised)


# Renormalisation and unusable maps


def test_renormalise_hand_worked():
    result = structural.renormalise([[0.1, 0.3], [0.0, 0.5]])
    np.testing.assert_allclose(result.map, [[0.25, 0.75], [0.0, 1.0]])
    np.testing.assert_allclose(result.image_mass, [0.4, 0.5])


def test_renormalise_names_what_it_cannot_use():
    rows = [[0.0, 0.0], [np.nan, 0.2], [np.inf, 0.2], [-0.1, 0.3], [0.2, 0.2]]
    result = structural.renormalise(rows)
    assert np.isnan(result.map[:4]).all()
    np.testing.assert_array_equal(result.map[4], [0.5, 0.5])
    np.testing.assert_array_equal(result.image_mass, [0.0, np.nan, np.nan, np.nan, 0.4])
    assert structural.map_problem(rows).tolist() == [
        MapProblem.NO_MASS,
        MapProblem.NON_FINITE,
        MapProblem.NON_FINITE,
        MapProblem.NEGATIVE,
        MapProblem.NONE,
    ]


def test_opposite_infinities_are_not_finite():
    assert structural.map_problem([np.inf, -np.inf]) == MapProblem.NON_FINITE


@pytest.mark.parametrize(
    "signal",
    [
        structural.spatial_entropy,
        structural.relative_spatial_entropy,
        structural.top_mass,
        structural.gini,
        lambda maps: structural.cluster_count_dbscan(maps.reshape(-1, 3, 4)),
        lambda maps: structural.cluster_count_components(maps.reshape(-1, 3, 4)),
        lambda maps: structural.spread(maps.reshape(-1, 3, 4)),
    ],
)
def test_an_unusable_map_is_nan_and_spoils_no_other(signal):
    good = normalised(np.arange(1, 13))
    bad = [np.full(12, np.nan), np.zeros(12), np.full(12, np.inf), good - 0.1, good + np.nan]
    values = signal(np.stack([good, *bad, good]))
    assert np.isnan(values[1:-1]).all()
    assert np.isfinite(values[[0, -1]]).all()
    assert values[0] == values[-1] == signal(good[None])[0]


@pytest.mark.parametrize(
    "signal", [structural.spatial_entropy, structural.top_mass, structural.gini]
)
def test_an_unnormalised_map_is_refused(signal):
    with pytest.raises(ValueError, match="sum to one"):
        signal(np.full((2, 9), 0.5))


# Spatial entropy


@pytest.mark.parametrize("n_tokens", [4, 144, 576])
def test_uniform_map_has_entropy_log_s(n_tokens):
    uniform = np.full(n_tokens, 1 / n_tokens)
    # The published offset of 1e-9 takes S·1e-9 off to first order.
    assert structural.spatial_entropy(uniform) == pytest.approx(
        math.log(n_tokens) - n_tokens * 1e-9, abs=1e-12
    )
    assert structural.relative_spatial_entropy(uniform) == pytest.approx(1.0, abs=1e-6)


def test_one_hot_map_has_entropy_near_zero():
    assert structural.spatial_entropy(one_hot(576, 17)) == pytest.approx(-1e-9, abs=1e-15)


def test_entropy_hand_worked():
    # −½ ln ½ − 2·¼ ln ¼ = 1.5 ln 2
    assert structural.spatial_entropy([0.5, 0.25, 0.25, 0.0]) == pytest.approx(
        1.5 * math.log(2), abs=1e-8
    )


def test_relative_entropy_of_a_single_token_is_undefined():
    assert np.isnan(structural.relative_spatial_entropy([[1.0]])).all()


@pytest.mark.slow
@given(positive_maps(), st.randoms(use_true_random=False))
def test_entropy_agrees_with_scipy_and_ignores_order(attention, random):
    entropy = structural.spatial_entropy(attention)
    assert entropy == pytest.approx(scipy.stats.entropy(attention), abs=1e-6)
    assert -1e-6 <= entropy <= math.log(len(attention)) + 1e-12
    shuffled = attention.copy()
    random.shuffle(shuffled)
    assert structural.spatial_entropy(shuffled) == pytest.approx(entropy, abs=1e-12)


def test_entropy_is_vectorised_over_leading_axes():
    maps = structural.renormalise(np.random.default_rng(1).random((2, 3, 4, 20))).map
    entropy = structural.spatial_entropy(maps)
    assert entropy.shape == (2, 3, 4)
    assert entropy[1, 2, 3] == structural.spatial_entropy(maps[1, 2, 3])


def test_attention_evolution_is_indexed_by_layer():
    entropy = [[5.0, 4.0, 1.5, 2.5]]
    np.testing.assert_array_equal(
        structural.attention_evolution(entropy), [[np.nan, -1.0, -2.5, 1.0]]
    )
    assert structural.largest_entropy_drop(entropy).tolist() == [-2.5]


def test_largest_drop_needs_two_layers_and_all_of_them():
    assert np.isnan(structural.largest_entropy_drop([3.0]))
    assert np.isnan(structural.largest_entropy_drop([3.0, np.nan, 2.0]))


def test_average_layers():
    maps = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(structural.average_layers(maps), [0.5, 0.5])
    np.testing.assert_allclose(structural.average_layers(maps, [0, 2]), [0.75, 0.25])


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.inf, -np.inf], [1.5, -0.5], [np.nan, 1.0]])
def test_average_layers_with_an_unusable_one_is_nan(bad):
    maps = np.array([[[1.0, 0.0], bad], [[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(structural.average_layers(maps), [[np.nan, np.nan], [0.5, 0.5]])
    np.testing.assert_array_equal(structural.average_layers(maps, [0]), [[1.0, 0.0], [1.0, 0.0]])


@pytest.mark.parametrize("layers", [[], [3], [-1], [0, 0]])
def test_average_layers_refuses_layers_that_are_not_there(layers):
    with pytest.raises(ValueError, match="layers"):
        structural.average_layers(np.ones((3, 2)), layers)


# Cluster count by DBSCAN


def random_map(rng):
    """Draw a map of varied shape and kind: noise, ties, plateaus, blobs, few hot cells."""
    grid_h, grid_w = rng.integers(1, 31, size=2)
    kind = rng.integers(5)
    if kind == 0:
        return rng.random((grid_h, grid_w))
    if kind == 1:  # ties
        return rng.integers(1, rng.integers(3, 12), size=(grid_h, grid_w)).astype(float)
    if kind == 2:  # plateaus of whole blocks
        block = rng.integers(1, 5)
        coarse = rng.random((grid_h // block + 1, grid_w // block + 1)).round(1) + 0.05
        return np.kron(coarse, np.ones((block, block)))[:grid_h, :grid_w]
    rows, columns = np.mgrid[:grid_h, :grid_w]
    attention = np.full((grid_h, grid_w), 1e-6)
    for _ in range(rng.integers(1, 6)):
        row, column = rng.integers(grid_h), rng.integers(grid_w)
        width = rng.uniform(0.3, 2.5)
        distance = (rows - row) ** 2 + (columns - column) ** 2
        attention += np.exp(-distance / width**2)
    return attention * (rng.random((grid_h, grid_w)) ** 4 + 1e-9 if kind == 4 else 1.0)


def dbscan_count(attention):
    cells = np.argwhere(attention > np.percentile(attention, 90))
    return DBSCAN(eps=1.5, min_samples=3).fit_predict(cells).max() + 1 if len(cells) else 0


def assert_counts_equal_dbscan(n_maps, seed):
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(n_maps):
        attention = normalised(random_map(rng))
        expected = dbscan_count(attention)
        assert structural.cluster_count_dbscan(attention) == expected
        seen.add(int(expected))
    assert {0, 1, 2, 3} <= seen


@pytest.mark.slow
def test_cluster_count_equals_scikit_learn():
    assert_counts_equal_dbscan(400, seed=0)


@pytest.mark.slow
def test_cluster_count_equals_scikit_learn_on_five_thousand_maps():
    assert_counts_equal_dbscan(5000, seed=1)


def test_cluster_count_of_a_stack_equals_single_maps():
    maps = structural.renormalise(np.random.default_rng(2).random((60, 17 * 11))).map
    grids = maps.reshape(3, 20, 17, 11)
    stacked = structural.cluster_count_dbscan(grids)
    assert stacked.shape == (3, 20)
    assert stacked.ravel().tolist() == [dbscan_count(grid) for grid in grids.reshape(-1, 17, 11)]


def test_clusters_do_not_join_across_maps_of_a_stack():
    lower = np.full((10, 10), 0.01)
    lower[-1, :4] = 1.0
    upper = np.full((10, 10), 0.01)
    upper[0, :4] = 1.0
    assert structural.cluster_count_dbscan(np.stack([lower, upper, lower])).tolist() == [1, 1, 1]
    counts = structural.cluster_count_components(np.stack([lower, upper, lower]))
    assert counts.tolist() == [0, 0, 0]


def test_cluster_count_hand_worked():
    # Ten of a hundred cells are over the percentile: a diagonal triple is a cluster, a pair and a
    # single cell are noise, a 2×2 block is a cluster.
    attention = 1e-3 + drawn(
        [
            "#.........",
            ".#......##",
            "..#.......",
            "..........",
            "....##....",
            "....##....",
            "..........",
            "#.........",
            "..........",
            "..........",
        ]
    )
    assert structural.cluster_count_dbscan(attention) == 2


def test_a_flat_map_has_no_cell_over_its_percentile():
    assert structural.cluster_count_dbscan(np.full((12, 12), 1 / 144)) == 0


# Cluster count by components


def test_components_hand_worked():
    # Three cells hold 0.3 of the mass: two touch at a corner, one lies apart: 2 − 1 = 1.
    attention = np.full((4, 4), 0.7 / 13)
    attention[0, 0] = attention[1, 1] = attention[3, 3] = 0.1
    assert structural.cluster_count_components(attention) == 1
    attention[3, 3], attention[0, 1] = attention[0, 1], attention[3, 3]
    assert structural.cluster_count_components(attention) == 0


def test_components_take_the_fewest_cells_and_stop():
    attention = np.array([[0.2, 0.05, 0.15, 0.05, 0.1, 0.45 - 1e-3, 1e-3]])
    # The cell of 0.449 alone holds 30%.
    assert structural.cluster_count_components(attention) == 0
    attention = np.array([[0.2, 0.1, 0.19, 0.1, 0.18, 0.1, 0.13]])
    # 0.2 falls short, 0.2 + 0.19 does not; they do not touch.
    assert structural.cluster_count_components(attention) == 1


def test_components_break_ties_by_index():
    # Of ten equal cells exactly three hold 30%: the first three, which are one run.
    assert structural.cluster_count_components(np.full((1, 10), 0.1)) == 0
    # Two heavy cells hold 0.24; of the equal rest the first, at index 0, completes 30%.
    attention = np.full((1, 12), 0.076)
    attention[0, [5, 9]] = 0.12
    assert structural.cluster_count_components(attention) == 2


@pytest.mark.parametrize("n_cells", [10, 20, 50, 100, 200])
def test_components_are_exact_where_the_share_is_met_exactly(n_cells):
    # In a column of equal cells the first 30% are one run, whatever the rounding of the sum.
    chosen = structural._smallest_set_holding(np.full((1, n_cells), 1 / n_cells), 0.3)
    assert chosen.sum() == round(0.3 * n_cells)


@settings(max_examples=50)
@given(arrays(np.float64, (6, 5), elements=st.sampled_from([0.01, 0.1, 0.2, 0.7])))
def test_components_against_plain_flood_fill(values):
    attention = normalised(values)
    order = sorted(range(30), key=lambda cell: (-values.ravel()[cell], cell))
    held, chosen = 0.0, set()
    for cell in order:
        if held >= 0.3 - 1e-12:
            break
        held += attention.ravel()[cell]
        chosen.add(divmod(cell, 5))
    regions = 0
    while chosen:
        regions += 1
        border = [chosen.pop()]
        while border:
            row, column = border.pop()
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & chosen
            chosen -= near
            border += near
    assert structural.cluster_count_components(attention) == regions - 1


# Other features


def test_top_mass_hand_worked():
    attention = normalised(np.arange(1, 21))  # 210 in all; the top two are 20 and 19
    assert structural.top_mass(attention) == pytest.approx(39 / 210)
    assert structural.top_mass([0.6, 0.4]) == pytest.approx(0.6)  # at least one cell


def test_gini_of_known_maps():
    assert structural.gini(np.full(50, 0.02)) == pytest.approx(0.0, abs=1e-12)
    assert structural.gini(one_hot(50, 3)) == pytest.approx(1 - 1 / 50)
    assert structural.gini(normalised([1, 2, 3, 4])) == pytest.approx(0.25)


@given(positive_maps())
def test_gini_is_half_the_relative_mean_difference(attention):
    n_tokens = len(attention)
    differences = np.abs(attention[:, None] - attention[None, :]).sum()
    assert structural.gini(attention) == pytest.approx(
        differences / (2 * n_tokens * attention.sum()), abs=1e-12
    )


def test_spread_hand_worked():
    single = one_hot(12, 7).reshape(3, 4)
    assert structural.spread(single) == 0.0
    corners = np.zeros((4, 5))
    corners[0, 0] = corners[3, 4] = 0.5
    # Each half lies √(1.5² + 2²) = 2.5 from the centre; the diagonal is √41.
    assert structural.spread(corners) == pytest.approx(2.5 / math.sqrt(41))
    uniform = np.full((24, 24), 1 / 576)
    # A discrete uniform variable on n values has variance (n² − 1)/12.
    assert structural.spread(uniform) == pytest.approx(
        math.sqrt(2 * (24**2 - 1) / 12) / (24 * math.sqrt(2))
    )


def test_map_features_hand_worked():
    n_tokens = 20
    uniform, single = np.full(n_tokens, 0.05), one_hot(n_tokens, 6)
    maps = np.stack([np.stack([uniform, single, uniform]), np.stack([single, single, single])])
    mass = np.array([[0.2, 0.4, 0.9], [0.1, 0.1, 0.1]])
    features = structural.map_features(maps, mass, grid_h=4, grid_w=5)
    assert features._fields == structural.FEATURE_NAMES
    assert len(features) == 11
    log_s = math.log(n_tokens)
    np.testing.assert_allclose(features.image_mass, [0.5, 0.1])
    np.testing.assert_allclose(features.largest_entropy_drop, [-log_s, 0.0], atol=1e-7)
    np.testing.assert_allclose(features.entropy_last_layer, [log_s, 0.0], atol=1e-7)
    np.testing.assert_allclose(features.attention_max, [1 / 3 + 2 / 60, 1.0])
    np.testing.assert_allclose(features.attention_top10_mass, [1 / 3 + 4 / 60, 1.0])
    np.testing.assert_allclose(features.spatial_entropy[1], 0.0, atol=1e-7)
    peak, rest = 22 / 60, 2 / 60
    np.testing.assert_allclose(
        features.spatial_entropy[0],
        -peak * math.log(peak) - 19 * rest * math.log(rest),
        atol=1e-7,
    )
    np.testing.assert_allclose(features.relative_spatial_entropy, features.spatial_entropy / log_s)
    np.testing.assert_allclose(features.attention_gini[1], 0.95)
    np.testing.assert_allclose(features.attention_spread[1], 0.0)
    assert features.cluster_count_components.tolist() == [0, 0]
    assert features.cluster_count_dbscan.tolist() == [0, 0]


def test_map_features_use_the_layers_asked_for():
    rng = np.random.default_rng(3)
    maps = structural.renormalise(rng.random((5, 4, 30))).map
    mass = rng.random((5, 4))
    some = structural.map_features(maps, mass, grid_h=5, grid_w=6, layers=[1, 2])
    np.testing.assert_allclose(some.image_mass, mass[:, 1:3].mean(axis=1))
    np.testing.assert_allclose(
        some.spatial_entropy, structural.spatial_entropy(maps[:, 1:3].mean(axis=1))
    )
    np.testing.assert_allclose(some.entropy_last_layer, structural.spatial_entropy(maps[:, 3]))


def test_map_features_of_an_item_with_a_bad_layer_are_nan():
    rng = np.random.default_rng(4)
    maps = structural.renormalise(rng.random((3, 4, 30))).map
    maps[1, 2] = np.nan
    mass = rng.random((3, 4))
    mass[1, 2] = np.nan
    features = np.stack(structural.map_features(maps, mass, grid_h=5, grid_w=6))
    last_layer = structural.FEATURE_NAMES.index("entropy_last_layer")
    assert np.isfinite(features[:, [0, 2]]).all()
    assert np.isfinite(features[last_layer, 1])
    assert np.isnan(np.delete(features[:, 1], last_layer)).all()


def test_map_features_refuse_a_grid_that_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        structural.map_features(np.ones((1, 2, 12)) / 12, np.ones((1, 2)), grid_h=3, grid_w=5)


# Choosing image tokens


def test_most_and_least_attended_with_ties():
    attention = normalised([3, 1, 3, 2, 1, 5, 1, 2, 1, 1])
    assert structural.most_attended(attention, 0.3).tolist() == [5, 0, 2]
    assert structural.least_attended(attention, 0.3).tolist() == [1, 4, 6]
    assert structural.most_attended(attention, 0.0).tolist() == []
    assert len(structural.most_attended(np.full(576, 1 / 576), 0.3)) == 173


@pytest.mark.parametrize("bad", [np.zeros(4), np.array([np.nan, 1, 1]), np.ones((2, 2))])
def test_an_unusable_map_ranks_no_tokens(bad):
    for choose in (structural.most_attended, structural.least_attended):
        with pytest.raises(ValueError, match="map"):
            choose(bad, 0.3)


def test_random_tokens_are_seeded_distinct_and_nested():
    few, many = structural.random_tokens(576, 20, 7), structural.random_tokens(576, 173, 7)
    assert few.tolist() == many[:20].tolist()
    assert len(set(many.tolist())) == 173
    assert set(many.tolist()) <= set(range(576))
    assert many.tolist() != structural.random_tokens(576, 173, 8).tolist()
    assert many.tolist() != structural.random_tokens(576, 173, [7, 1]).tolist()


def test_random_tokens_are_uniform():
    drawn_tokens = np.concatenate([structural.random_tokens(12, 4, seed) for seed in range(1500)])
    counts = np.bincount(drawn_tokens, minlength=12)
    # Under uniform draws the count of a token has mean 500 and standard deviation about 18.
    assert np.abs(counts - 500).max() < 4.5 * math.sqrt(1500 * (1 / 3) * (2 / 3))


def test_token_counts_out_of_range_are_refused():
    with pytest.raises(ValueError, match="share"):
        structural.token_count(10, 1.5)
    with pytest.raises(ValueError, match="cannot draw"):
        structural.random_tokens(10, 11, 0)


def test_entropy_of_a_single_token_is_zero():
    """Not −log(1 + 1e-9), which is below zero."""
    assert structural.spatial_entropy([[[1.0]], [[np.nan]]])[0, 0] == 0.0
    assert np.isnan(structural.spatial_entropy([[np.nan]])).all()
    features = structural.map_features(np.ones((2, 3, 1)), np.full((2, 3), 0.5), grid_h=1, grid_w=1)
    assert features.spatial_entropy.tolist() == features.entropy_last_layer.tolist() == [0.0, 0.0]
    assert features.largest_entropy_drop.tolist() == [0.0, 0.0]
    assert np.isnan(features.relative_spatial_entropy).all()

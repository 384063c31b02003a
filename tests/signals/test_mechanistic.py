import numpy as np
import pytest

from vrp.signals import mechanistic

LOGITS = np.array([1.0, 4.0, -2.0, 3.5, 0.0])


def test_truth_margin_takes_the_best_surface_form():
    assert mechanistic.truth_margin(LOGITS, [0, 3]) == pytest.approx(-0.5)
    assert mechanistic.truth_margin(LOGITS, {1, 2}) == pytest.approx(0.5)
    assert mechanistic.truth_margin(LOGITS, [1, 3]) == pytest.approx(3.0)


def test_truth_margin_over_layers():
    layers = np.stack([LOGITS, LOGITS[::-1]])
    np.testing.assert_allclose(mechanistic.truth_margin(layers, [1]), [0.5, -0.5])


@pytest.mark.parametrize("tokens", [[], [5], [-1], range(5)])
def test_truth_margin_refuses_impossible_tokens(tokens):
    with pytest.raises(ValueError, match="tokens"):
        mechanistic.truth_margin(LOGITS, tokens)


def test_margins_of_non_finite_logits_are_nan():
    bad = np.stack([LOGITS, np.where(LOGITS == 0, np.nan, LOGITS), np.full(5, -np.inf)])
    assert np.isnan(mechanistic.truth_margin(bad, [1])).tolist() == [False, True, True]
    assert np.isnan(mechanistic.decision_margin(bad)).tolist() == [False, True, True]
    assert np.isnan(mechanistic.decision_margin([np.inf, 1.0, 0.0]))


def test_decision_margin_and_pair():
    assert mechanistic.decision_margin(LOGITS) == pytest.approx(0.5)
    pair = mechanistic.decision_pair(LOGITS)
    assert (pair.top, pair.runner_up) == (1, 3)
    assert mechanistic.decision_margin([2.0, 2.0, 1.0]) == 0.0


def test_decision_pair_breaks_ties_by_id_and_is_always_two_tokens():
    pair = mechanistic.decision_pair([[2.0, 5.0, 5.0], [7.0, -np.inf, -np.inf], [3.0, 3.0, 3.0]])
    assert pair.top.tolist() == [1, 0, 0]
    assert pair.runner_up.tolist() == [2, 1, 1]


def test_decisions_need_two_tokens():
    for decide in (mechanistic.decision_margin, mechanistic.decision_pair):
        with pytest.raises(ValueError, match="two tokens"):
            decide([1.0])
    with pytest.raises(ValueError, match="NaN"):
        mechanistic.decision_pair([1.0, np.nan])


def test_decision_margin_equals_truth_margin_of_the_top_token():
    logits = np.random.default_rng(0).standard_normal((50, 30))
    for row in logits:
        top = int(mechanistic.decision_pair(row).top)
        assert mechanistic.decision_margin(row) == mechanistic.truth_margin(row, [top])


def test_layer_peak():
    peak = mechanistic.layer_peak([[1.0, 3.0, 3.0], [-2.0, -3.0, -1.0], [1.0, np.nan, 0.0]])
    np.testing.assert_array_equal(peak.value, [3.0, -1.0, np.nan])
    np.testing.assert_array_equal(peak.layer, [1, 2, np.nan])


def test_contribution_shares_are_ratios_of_sums():
    attention = [[1.0, 1.0], [0.0, 10.0], [np.nan, 1.0]]
    mlp = [[6.0, 0.0], [0.0, -10.0], [100.0, 100.0]]
    shares = mechanistic.contribution_shares(attention, mlp)
    # Sums over the two finite items: attention 1 + 11 = 12, MLPs 6 − 10 = −4, growth 8.
    assert shares.n_items == 2
    assert shares.attention == pytest.approx(1.5)
    assert shares.mlp == pytest.approx(-0.5)
    assert shares.growth == pytest.approx(4.0)
    np.testing.assert_allclose(shares.attention_by_layer, [1 / 8, 11 / 8])
    np.testing.assert_allclose(shares.mlp_by_layer, [6 / 8, -10 / 8])


def test_contribution_shares_of_nothing_are_nan():
    flat = mechanistic.contribution_shares([[1.0]], [[-1.0]])
    assert np.isnan(flat.mlp)
    assert flat.growth == 0
    empty = mechanistic.contribution_shares([[np.nan]], [[1.0]])
    assert empty.n_items == 0
    assert np.isnan([empty.mlp, empty.growth]).all()
    with pytest.raises(ValueError, match="one shape"):
        mechanistic.contribution_shares([[1.0]], [[1.0, 2.0]])


def test_residual_update_hand_worked():
    states = np.zeros((3, 2, 2))
    states[1] = [[3.0, 4.0], [0.0, 0.0]]  # norms 5 and 0
    states[2] = [[3.0, 4.0], [0.0, 1.0]]  # norms 0 and 1
    np.testing.assert_allclose(mechanistic.residual_update(states), [2.5, 0.5])
    states[2, 0, 0] = np.inf
    np.testing.assert_array_equal(mechanistic.residual_update(states), [2.5, np.nan])


def test_late_forcing_hand_worked():
    updates = [[1.0, 3.0, 2.0, 2.0, 2.0, 2.0, 4.0, 8.0], [1.0] * 7 + [np.nan]]
    forcing = mechanistic.late_forcing(updates)
    np.testing.assert_array_equal(forcing.late, [6.0, np.nan])
    np.testing.assert_array_equal(forcing.earlier, [2.0, 1.0])
    np.testing.assert_array_equal(forcing.ratio, [3.0, np.nan])
    np.testing.assert_array_equal(forcing.peak_layer, [7.0, np.nan])


def test_late_forcing_of_a_single_layer_has_nothing_earlier():
    forcing = mechanistic.late_forcing([[2.0]])
    assert forcing.late.tolist() == [2.0]
    assert np.isnan(forcing.ratio).all()
    with pytest.raises(ValueError, match="share"):
        mechanistic.late_forcing([[2.0]], share=0.0)

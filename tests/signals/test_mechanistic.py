import numpy as np
import pytest

from vrp.signals import mechanistic


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


def test_contribution_shares_of_nothing_are_nan():
    flat = mechanistic.contribution_shares([[1.0]], [[-1.0]])
    assert np.isnan(flat.mlp)
    empty = mechanistic.contribution_shares([[np.nan]], [[1.0]])
    assert empty.n_items == 0
    assert np.isnan(empty.mlp)
    with pytest.raises(ValueError, match="one shape"):
        mechanistic.contribution_shares([[1.0]], [[1.0, 2.0]])


def test_late_update_hand_worked():
    updates = [[1.0, 3.0, 2.0, 2.0, 2.0, 2.0, 4.0, 8.0], [1.0] * 7 + [np.nan]]
    np.testing.assert_array_equal(mechanistic.late_update(updates), [6.0, np.nan])
    assert mechanistic.late_update([[2.0]]).tolist() == [2.0]

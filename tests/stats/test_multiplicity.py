import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.multiplicity import holm


def test_hand_worked():
    # Sorted 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 = 0.04 → kept up to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_capped_at_one_and_ties():
    assert holm([0.5, 0.6, 0.5]).tolist() == [1.0, 1.0, 1.0]
    assert holm([0.01]).tolist() == [0.01]
    assert holm([]).tolist() == []


def test_tests_not_made_are_not_counted():
    adjusted = holm([0.02, np.nan, 0.03])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(adjusted[1])


def test_order_does_not_matter_and_family_wise_error_holds():
    random = np.random.default_rng(0)
    p = random.random(20)
    shuffle = random.permutation(20)
    assert holm(p)[shuffle] == pytest.approx(holm(p[shuffle]))
    false_claims = np.mean([(holm(random.random(10)) < 0.05).any() for _ in range(2000)])
    assert false_claims < 0.07


def test_bad_p_is_refused():
    with pytest.raises(InputError):
        holm([0.5, 1.2])

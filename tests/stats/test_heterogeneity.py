import math

import pytest

from vrp.stats.heterogeneity import interaction_p


def test_cochrans_q_by_hand():
    # Weights 100 and 25; mean (60 + 20)/125 = 0.64; Q = 100·0.04² + 25·0.16² = 0.8.
    # χ² of one degree: P(Q > 0.8) = erfc(√0.4) = 0.3711.
    assert interaction_p([0.6, 0.8], [0.1, 0.2]) == pytest.approx(math.erfc(math.sqrt(0.4)))


def test_what_has_no_error_is_left_out():
    assert math.isnan(interaction_p([0.6, 0.8], [0.1, math.nan]))
    assert interaction_p([0.6, 0.8, 1.0], [0.01, 0.01, math.nan]) < 1e-6

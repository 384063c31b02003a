import math

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.bootstrap import BootstrapEstimate, generator, resample_groups, seed_from


def test_seed_is_the_head_of_sha256():
    # printf 'abc' | sha256sum → ba7816bf8f01cfea…
    assert seed_from("abc") == 0xBA7816BF8F01CFEA
    assert seed_from("a", "b") != seed_from("ab")
    assert seed_from(1, "a", 1) != seed_from(11, "a")
    assert generator("x", 1).integers(1 << 30) == generator("x", 1).integers(1 << 30)


def test_every_resample_draws_as_many_images_as_there_are():
    groups = np.repeat([f"image{i}" for i in range(37)], 3)
    drawn = resample_groups(groups, seed="s", n_boot=50)
    assert drawn.weights.shape == (37, 50)
    assert (drawn.weights.sum(axis=0) == 37).all()
    # Poisson(1)-like multiplicities: about a share 1/e of images is not drawn.
    assert abs((drawn.weights == 0).mean() - math.exp(-1)) < 0.03


def test_draws_depend_on_the_seed_and_not_on_row_order():
    groups = np.array(["b", "a", "c", "a", "d"])
    first = resample_groups(groups, seed="s", n_boot=20)
    assert (first.weights == resample_groups(groups[::-1], seed="s", n_boot=20).weights).all()
    other = resample_groups(groups, seed="t", n_boot=20)
    assert (other.weights != first.weights).any()


def test_unknown_image_and_empty_input_are_refused():
    drawn = resample_groups(["a", "b"], seed="s", n_boot=5)
    assert drawn.codes(["b", "a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="image 'z'"):
        drawn.codes(["a", "z"])
    with pytest.raises(InputError):
        resample_groups([], seed="s", n_boot=5)


def _boot(value, replicates, note="") -> BootstrapEstimate:
    return BootstrapEstimate(value, np.asarray(replicates, dtype=float), 10, 5, note)


def test_percentile_interval_by_hand():
    estimate = _boot(0.5, np.arange(1, 100) / 100).estimate()  # 0.01 … 0.99
    # Linear quantile: position 0.025·98 = 2.45 counted from 0.01, and its mirror image.
    assert estimate.low == pytest.approx(0.0345)
    assert estimate.high == pytest.approx(0.9655)


def test_undefined_replicates_are_said():
    boot = _boot(0.5, [0.4, math.nan, 0.6])
    assert "1 of 3 resamples" in boot.estimate().note
    assert math.isnan(_boot(math.nan, [math.nan] * 3, note="why").estimate().low)

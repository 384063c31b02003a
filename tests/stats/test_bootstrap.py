import math

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.stats.auroc import bootstrap_auroc
from vrp.stats.bootstrap import (
    BootstrapEstimate,
    difference,
    generator,
    macro_average,
    resample_groups,
    seed_from,
)


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
    assert first.key == resample_groups(groups[::-1], seed="s", n_boot=20).key
    other = resample_groups(groups, seed="t", n_boot=20)
    assert other.key != first.key
    assert (other.weights != first.weights).any()


def test_unknown_image_and_empty_input_are_refused():
    drawn = resample_groups(["a", "b"], seed="s", n_boot=5)
    assert drawn.codes(["b", "a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="image 'z'"):
        drawn.codes(["a", "z"])
    with pytest.raises(InputError):
        resample_groups([], seed="s")


def _boot(value, replicates, key="k", note="") -> BootstrapEstimate:
    return BootstrapEstimate(value, np.asarray(replicates, dtype=float), 10, 5, key, note)


def test_percentile_interval_and_its_p_value_by_hand():
    boot = _boot(0.5, np.arange(1, 100) / 100)  # 0.01 … 0.99
    estimate = boot.estimate(null=0.03)
    # Linear quantile: position 0.025·98 = 2.45 counted from 0.01, and its mirror image.
    assert estimate.low == pytest.approx(0.0345)
    assert estimate.high == pytest.approx(0.9655)
    assert estimate.p == pytest.approx(2 * (3 + 1) / 100)
    assert math.isnan(boot.estimate().p)


def test_undefined_replicates_are_said():
    boot = _boot(0.5, [0.4, math.nan, 0.6])
    assert "1 of 3 resamples" in boot.estimate().note
    assert math.isnan(_boot(math.nan, [math.nan] * 3, note="why").estimate().low)


def test_macro_average_is_joint_and_names_what_it_leaves_out():
    parts = {
        "counting": _boot(0.6, [0.5, 0.7]),
        "spatial": _boot(0.8, [0.7, 0.9]),
        "open": _boot(math.nan, [math.nan, math.nan], note="one class"),
    }
    macro = macro_average(parts, n_groups=9)
    assert macro.value == pytest.approx(0.7)
    assert macro.replicates == pytest.approx([0.6, 0.8])  # replicate by replicate
    assert macro.n == 20
    assert macro.n_groups == 9
    assert "left out of the average: open" in macro.note
    assert "open: one class" in macro.note


def test_estimates_of_different_draws_do_not_mix():
    with pytest.raises(InputError, match="different resamples"):
        difference(_boot(1, [1]), _boot(1, [1], key="other"))
    assert difference(_boot(3, [4, 5]), _boot(1, [1, 3])).replicates.tolist() == [3, 2]


def test_macro_over_tasks_sharing_images_is_wider_than_if_they_were_independent():
    # The same images decide both tasks: the tasks' errors go together.
    random = np.random.default_rng(0)
    n = 300
    quality = random.normal(size=n)
    correct = (quality + random.normal(size=n) > 0).astype(int)
    groups = np.array([f"g{i}" for i in range(n)])
    resamples = resample_groups(groups, seed="m", n_boot=1000)
    task = bootstrap_auroc(quality, correct, groups, resamples=resamples)
    macro = macro_average({"a": task, "b": task}, n_groups=n)
    assert macro.value == task.value
    assert macro.se == pytest.approx(task.se)
    assert macro.n_groups == n

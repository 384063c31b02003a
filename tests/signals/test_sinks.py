"""Attention sinks: which tokens they are, and maps without them."""

import numpy as np
import pytest

from vrp.signals.sinks import HeavyPlaces, outlier_tokens, sink_mask, without_sinks


def test_outliers_are_those_of_the_modified_z_score():
    # Median 3, absolute deviations 2 1 0 1 97: their median is 1; (100 − 3)·0.6745 = 65 > 3.5.
    assert outlier_tokens([1, 2, 3, 4, 100]).tolist() == [False] * 4 + [True]
    assert not outlier_tokens([1, 2, 3, 4, 8]).any()  # 3.37 of 3.5
    assert outlier_tokens([1, 2, 3, 4, 8.2]).tolist() == [False] * 4 + [True]
    assert not outlier_tokens([-100, 2, 3, 4, 5]).any()  # small norms are no sinks
    assert not outlier_tokens([3, 3, 3, 100]).any()  # no spread to judge by
    assert not outlier_tokens([1, 2, np.nan, 4, 100]).any()


def test_a_stack_is_judged_row_by_row():
    norms = np.abs(np.random.default_rng(0).normal(size=(4, 5, 30))) + 1
    norms[2, 3, 17] = 50
    found = outlier_tokens(norms)
    assert found[2, 3, 17]
    for item in range(4):
        for layer in range(5):
            alone = outlier_tokens(norms[item, layer])
            np.testing.assert_array_equal(found[item, layer], alone)


def counted(maps, images=None):
    places = HeavyPlaces()
    for number, one in enumerate(maps):
        places.add(one, f"image {number if images is None else images[number]}")
    return places.sinks()


def test_places_that_are_heavy_in_most_images_are_sinks():
    maps = np.full((25, 2, 100), 0.01)
    maps[:13, 1, 7] = 0.06  # thirteen of twenty-five
    maps[:12, 1, 8] = 0.06  # twelve
    assert np.argwhere(counted(maps)).tolist() == [[1, 7]]
    # Every place of a small even map is over 5%.
    assert not counted(np.full((25, 1, 9), 1 / 9)).any()


def test_few_images_do_not_tell_a_sink_from_what_they_show():
    maps = np.full((25, 1, 100), 0.01)
    maps[:, 0, 7] = 0.06
    assert counted(maps[:19]) is None
    assert counted(maps[:20])[0, 7]
    assert counted(maps, images=np.arange(25) // 2) is None  # thirteen images, asked about twice
    maps[:6] = np.nan
    assert counted(maps) is None


def test_maps_are_renormalised_over_what_is_left():
    maps = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    sinks = sink_mask([0, 3], 2, 3)
    assert sinks.tolist() == [[True, False, False], [True, False, False]]
    left = without_sinks(maps, sinks)
    assert left[0] == pytest.approx([0, 0.6, 0.4])
    assert np.isnan(left[1]).all()  # all of its mass was on the sink

"""Estimates that keep the influence of every image."""

import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats.clusters import (
    clustered_mean,
    difference,
    mean_of,
    not_estimated,
    numbered,
    smallest_resolvable,
)


def mean(values, groups=None, *, n_images=None, name="items"):
    codes = np.arange(len(values)) if groups is None else np.asarray(groups)
    return clustered_mean(values, codes, n_images=n_images or int(codes.max()) + 1, name=name)


def test_a_mean_of_independent_items_is_scipys_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, size=25)
    found, test = mean(values), stats.ttest_1samp(values, 0.1)
    interval = test.confidence_interval()
    assert found.se == pytest.approx(stats.sem(values), rel=1e-12)
    assert found.df == 24
    assert found.p_against(0.1) == pytest.approx(test.pvalue, rel=1e-9)
    assert found.interval() == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_five_copies_of_every_item_are_no_new_evidence():
    values = np.random.default_rng(1).normal(size=40)
    copied = mean(np.repeat(values, 5), np.repeat(np.arange(40), 5))
    assert copied.se == pytest.approx(mean(values).se, rel=1e-12)
    assert copied.df == 39
    assert copied.n, copied.n_groups == (200, 40)


def test_an_average_over_tasks_of_shared_images_adds_up_their_influence():
    # The same values twice under two names: averaging them gains nothing.
    values = np.random.default_rng(2).normal(size=50)
    parts = {name: mean(values, name=name) for name in "ab"}
    together = mean_of(parts, n_groups=50)
    assert together.se == pytest.approx(parts["a"].se, rel=1e-9)
    # Different images: the variances add up, a quarter each.
    apart = {
        "a": mean(values[:25], np.arange(25), n_images=50, name="a"),
        "b": mean(values[25:], np.arange(25, 50), n_images=50, name="b"),
    }
    expected = math.hypot(apart["a"].se, apart["b"].se) / 2
    assert mean_of(apart, n_groups=50).se == pytest.approx(expected, rel=1e-2)


def test_an_average_names_what_it_leaves_out():
    parts = {"a": mean(np.arange(9.0)), "b": not_estimated("too few wrong answers: 3")}
    found = mean_of(parts, n_groups=9)
    assert found.value == 4.0
    assert found.note == "left out of the average: b (too few wrong answers: 3)"
    assert math.isnan(mean_of({"b": parts["b"]}, n_groups=9).value)


def test_the_difference_of_two_measures_of_the_same_items_is_scipys_paired_test():
    random = np.random.default_rng(3)
    shared = random.normal(size=60)
    first, second = shared + random.normal(0, 0.2, 60), shared + random.normal(0, 0.2, 60)
    gap = difference(mean(first), mean(second))
    test = stats.ttest_rel(first, second)
    assert gap.p_against(0.0) == pytest.approx(test.pvalue, rel=1e-9)


def test_an_interval_between_bounds_stays_within_them():
    correct = np.r_[np.ones(97), np.zeros(3)]
    low, high = mean(correct).interval(low=0.0, high=1.0)
    assert 0 < low < 0.97 < high < 1
    # On the logit's scale, as by the delta method.
    se = mean(correct).se / (0.97 * 0.03)
    half = stats.t.ppf(0.975, 99) * se
    assert math.log(high / (1 - high)) == pytest.approx(math.log(0.97 / 0.03) + half, rel=1e-9)
    with pytest.raises(ValueError, match="both"):
        mean(correct).interval(low=0.0)


def test_no_variance_gives_no_interval_and_no_p():
    found = mean(np.ones(20)).estimate("t", null=0.0)
    assert found.value == 1.0
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert "no variance" in found.note


def test_under_ten_images_there_is_a_value_and_the_reason_why_no_more():
    values = np.arange(30.0)
    few = mean(values, np.arange(30) % 9).estimate("t", null=0.0)
    assert few.value == 14.5
    assert np.isnan([few.low, few.high, few.p]).all()
    assert (few.n, few.n_groups, few.note) == (30, 9, "too few images: 9")
    assert mean(values, np.arange(30) % 10).estimate("t", null=0.0).p < 0.001


def test_missing_values_are_left_out_and_counted():
    found = mean([1.0, math.nan, 3.0])
    assert found.value == 2.0
    assert found.note == "1 of 3 items dropped: no value"
    with pytest.raises(InputError, match="one image per item"):
        mean([1.0, 2.0], [0])


def test_the_smallest_resolvable_effect_is_found_with_80_percent_power():
    # A t test of 30 items: power from the noncentral t distribution.
    se, df, alpha = 0.2, 29, 0.01
    effect = smallest_resolvable(se, df, alpha=alpha)
    bound = stats.t.ppf(1 - alpha / 2, df)
    power = stats.nct.sf(bound, df, effect / se) + stats.nct.cdf(-bound, df, effect / se)
    assert power == pytest.approx(0.8, abs=0.02)


def test_images_are_numbered_in_the_order_of_their_names():
    codes, n = numbered(np.array(["b", "a", "b", "c"]))
    assert (codes.tolist(), n) == ([1, 0, 1, 2], 3)

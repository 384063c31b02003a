import math

import numpy as np
import pytest
from scipy import stats

from vrp.errors import InputError
from vrp.stats import paired
from vrp.stats.clusters import group_sums, numbered
from vrp.stats.paired import (
    mcnemar,
    mean_over_tasks,
    paired_difference,
    paired_equivalence_p,
    paired_estimate,
    sign_flip_test,
)


def effect(before, after, groups=None):
    codes, n_images = numbered(np.arange(len(before)) if groups is None else groups)
    return paired_difference(before, after, codes, n_images=n_images)


def test_sign_flip_by_hand():
    # |Σ| = 3 of ±1 ±1 ±1: two of eight assignments reach it.
    assert sign_flip_test([1, 1, 1], seed="s") == 0.25
    # Σ = 2; ±1 ±1 ±2 is ±4 twice, ±2 four times, 0 twice: six of eight reach 2.
    assert sign_flip_test([1, -1, 2], seed="s") == 0.75
    assert sign_flip_test([0, 0, 0], seed="s") == 1.0
    # Zeros add nothing.
    assert sign_flip_test([1, 1, 1, 0, 0], seed="s") == 0.25


def test_the_three_ways_agree(monkeypatch):
    random = np.random.default_rng(0)
    nets = random.integers(-2, 4, 13).astype(float)
    listed = sign_flip_test(nets, seed="s")
    monkeypatch.setattr(paired, "ENUMERATION_LIMIT", 1)
    assert sign_flip_test(nets, seed="s") == pytest.approx(listed, abs=1e-12)
    monkeypatch.setattr(paired, "CONVOLUTION_LIMIT", 0)
    drawn = sign_flip_test(nets, seed="s")
    assert drawn == pytest.approx(listed, abs=4 * math.sqrt(listed / 10_000))
    assert drawn == sign_flip_test(nets, seed="s")


def test_unit_nets_equal_the_binomial_test():
    # With one item an image, the sign-flip test is McNemar's exact test.
    nets = np.array([-1.0] * 40 + [1.0] * 20 + [0.0] * 100)
    expected = stats.binomtest(20, 60, 0.5).pvalue
    assert sign_flip_test(nets, seed="s") == pytest.approx(expected, rel=1e-9)
    assert mcnemar(20, 40) == pytest.approx(expected)
    assert mcnemar(0, 0) == 1.0


def test_monte_carlo_never_says_zero():
    p = sign_flip_test(np.ones(200) + 0.5, seed="s", n_draws=100)
    assert p == 1 / 101


def test_an_effect_by_hand():
    before = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    after = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 0])
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]
    found = effect(before, after, groups)
    assert found.value == pytest.approx(-20.0)
    assert found.n_groups == 5
    # Per image, changes less the mean: −160, +40, +140, +40, −60 in a tenth of a point.
    squares = sum(v**2 for v in (-16, 4, 14, 4, -6))
    assert found.se == pytest.approx(math.sqrt(5 / 4 * squares))
    assert (pytest.approx(found.df), found.n_gained, found.n_lost) == (4, 1, 2)
    assert mcnemar(1, 3) == pytest.approx(stats.binomtest(1, 4).pvalue)
    # Nets a −2, c +1, e −1: Σ = −2; |±2 ±1 ±1| ≥ 2 in 6 of 8.
    nets = group_sums((after - before).astype(float), numbered(groups)[0])
    assert nets.tolist() == [-2, 0, 1, 0, -1]
    assert sign_flip_test(nets, seed="s") == 0.75


def test_no_change_at_all_is_strong_evidence_of_no_effect():
    found = effect(np.ones(1000), np.ones(1000))
    estimate = paired_estimate(found)
    # Where nothing changed, the squared statistic of a difference d is n d / (1 − d).
    bound = stats.t.ppf(0.975, 999) ** 2
    reach = 100 * bound / (1000 + bound)
    assert estimate.value == 0.0
    assert (estimate.low, estimate.high) == pytest.approx((-reach, reach))
    statistic = math.sqrt(1000 * 0.02 / 0.98)
    assert paired_equivalence_p(found, margin=2.0) == pytest.approx(stats.t.sf(statistic, 999))
    # Eight changes, all losses: what an exact test at 5% needs six of, in four of five studies.
    assert 0.7 < found.resolvable(0.05) < 0.9
    assert stats.poisson.sf(5, 10 * found.resolvable(0.05)) == pytest.approx(0.8, abs=0.02)


def test_intervals_do_not_fall_off_a_cliff():
    """From none to sixty losses of 400, ends move little from one to the next."""
    ends = []
    for n_lost in range(60):
        after = np.ones(400)
        after[:n_lost] = 0
        found = paired_estimate(effect(np.ones(400), after))
        ends.append((found.low, found.high))
    steps = np.abs(np.diff(ends, axis=0))
    assert steps.max() < 0.6  # of a point; a loss is a quarter
    assert np.all(np.diff(np.array(ends)[:, 0]) < 0)


def test_one_changed_image_gives_no_p_of_zero():
    after = np.ones(1000)
    after[7] = 0
    found = effect(np.ones(1000), after)
    estimate = paired_estimate(found)
    assert estimate.low < -0.1 < 0 < estimate.high
    assert 0 < paired_equivalence_p(found, margin=2.0) < 1e-3


def test_a_mean_of_one_task_is_that_task():
    after = np.ones(166)
    after[3] = 0
    one = effect(np.ones(166), after)
    mean = mean_over_tasks({"existence": one}, n_groups=166)
    assert paired_estimate(mean) == paired_estimate(one)
    assert paired_equivalence_p(mean, margin=2.0) == paired_equivalence_p(one, margin=2.0)


def test_a_mean_over_tasks_leaves_small_ones_out_and_combines_intervals():
    """MOVER by hand: ends combine as the root of their distances' squares, over the tasks."""
    codes = np.arange(300)
    parts = {
        name: paired_difference(
            np.ones(n), np.arange(n) >= lost, codes[:n], n_images=300, name=name
        )
        for name, n, lost in (("a", 100, 0), ("b", 300, 30), ("c", 9, 9))
    }
    mean = mean_over_tasks(parts, n_groups=300)
    found = paired_estimate(mean)
    a, b = (paired_estimate(parts[name]) for name in "ab")
    assert found.value == pytest.approx((a.value + b.value) / 2)
    assert found.note == "left out of the average: c (too few images: 9)"
    assert (found.n, found.n_groups) == (400, 300)
    assert found.low == pytest.approx(
        found.value - math.hypot(a.value - a.low, b.value - b.low) / 2
    )
    assert found.high == pytest.approx(
        found.value + math.hypot(a.high - a.value, b.high - b.value) / 2
    )
    assert paired_equivalence_p(mean, margin=2.0) > 0.5
    assert mean.resolvable(0.05) == pytest.approx(
        math.hypot(parts["a"].resolvable(0.05), parts["b"].resolvable(0.05)) / 2
    )


def test_few_images_give_neither_interval_nor_test():
    found = effect(np.ones(90), np.arange(90) % 2, np.arange(90) // 10)
    estimate = paired_estimate(found)
    assert estimate.value == pytest.approx(-50.0)
    assert math.isnan(estimate.low)
    assert estimate.note == "too few images: 9"
    assert math.isnan(paired_equivalence_p(found, margin=2.0))


@pytest.mark.slow
@pytest.mark.parametrize("lost_share", [0.01, 0.3])
def test_interval_covers_a_planted_effect_with_clusters(lost_share):
    random = np.random.default_rng(2)
    n_images = 400 if lost_share < 0.1 else 60
    groups = np.repeat(np.arange(n_images), 5)
    covered = 0
    for _ in range(1000):
        # The image decides whether all its five items are lost.
        lost = random.random(n_images) < lost_share
        found = paired_estimate(effect(np.ones(groups.size), ~lost[groups], groups))
        covered += found.low <= -100 * lost_share <= found.high
    assert covered / 1000 >= 0.93


def unequal(n_images):
    """Images with one to eight questions, as a study samples them."""
    random = np.random.default_rng(3)
    return np.repeat(np.arange(n_images), 1 + random.poisson(1.6, n_images))


def test_images_of_unequal_size_count_as_fewer():
    """By hand: 100 items on images of 1 and of 9 are as many images of equal size as 100²/820."""
    sizes = np.array([1, 9] * 10)
    found = effect(np.ones(100), np.ones(100), np.repeat(np.arange(20), sizes))
    assert found.n_effective == pytest.approx(100**2 / (10 * 1 + 10 * 81))
    # … and their variance has the degrees of freedom of images that count by their squares.
    assert found.pairs_df == pytest.approx((10 + 10 * 81) ** 2 / (10 + 10 * 81**2) - 1)
    bound = stats.t.ppf(0.975, found.pairs_df) ** 2
    reach = 100 * bound / (found.n_effective + bound)
    assert paired_estimate(found).high == pytest.approx(reach)
    # 1,000 answers of which none changed are evidence of no effect.
    groups = unequal(387)
    found = effect(np.ones(groups.size), np.ones(groups.size), groups)
    assert paired_equivalence_p(found, margin=2.0) < 0.02
    assert paired_estimate(found).high < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("n_cancelling", [0, 3, 12])
def test_what_can_be_found_is_found_in_four_of_five_studies(n_cancelling):
    """As many answers are won as are lost; on top of them the effect takes its share."""
    random = np.random.default_rng(6)
    before, after = np.ones(300), np.ones(300)
    before[:n_cancelling], after[n_cancelling : 2 * n_cancelling] = 0, 0
    truth = effect(before, after).resolvable(0.05) / 100
    share, found = n_cancelling / 300, 0
    for index in range(1000):
        u = random.random(300)
        won, lost = u < share, (u >= share) & (u < 2 * share + truth)
        part = paired_estimate(effect(~won, ~lost))
        p = sign_flip_test(won.astype(float) - lost, seed=str(index), n_draws=500)
        found += p < 0.05 and not part.low <= 0 <= part.high
    assert 0.7 <= found / 1000 <= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("by_size", [0, 1])
def test_few_changes_on_unequal_images_keep_coverage_and_size(by_size):
    """Whole images are lost, all alike or the larger ones more often; 2 points in truth."""
    random = np.random.default_rng(4)
    groups = unequal(387)
    sizes = np.bincount(groups).astype(float)
    chance = sizes**by_size
    chance *= 0.02 * sizes.sum() / (chance * sizes).sum()
    covered = equivalent = 0
    for _ in range(1000):
        lost = random.random(387) < chance
        found = effect(np.ones(groups.size), ~lost[groups], groups)
        estimate = paired_estimate(found)
        covered += estimate.low <= -2.0 <= estimate.high
        equivalent += paired_equivalence_p(found, margin=2.0) < 0.05
    assert covered / 1000 >= 0.93
    assert equivalent / 1000 <= 0.06


def test_sign_flips_of_a_random_choice_are_null():
    """One of six equal runs against the mean of the others, as specificity is tested."""
    random = np.random.default_rng(5)
    groups = np.arange(200) // 2
    p = []
    for i in range(60):
        runs = (random.random((6, 200)) > 0.2).astype(float)
        nets = group_sums(5 * runs[0] - runs[1:].sum(axis=0), groups)
        p.append(sign_flip_test(nets, seed=f"n{i}"))
    assert np.mean(np.array(p) < 0.05) < 0.15
    assert np.mean(np.array(p) < 0.5) > 0.25


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="same items twice"):
        paired_difference([1, 0], [1], np.array([0, 1]), n_images=2)
    with pytest.raises(InputError, match="finite"):
        sign_flip_test([1.0, np.nan], seed="s")

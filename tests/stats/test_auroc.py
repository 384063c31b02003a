import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from vrp.stats.auroc import (
    _difference_ends,
    auroc,
    auroc_difference,
    auroc_equivalence_p,
    auroc_estimate,
    bootstrap_auroc,
    clustered_auroc,
    difference_equivalence_p,
    stratified_auroc,
    van_elteren_weight,
)
from vrp.stats.bootstrap import resample_groups
from vrp.stats.clusters import difference, mean_of
from vrp.stats.equivalence import equivalence_p


def clustered(signal, correct, groups=None, folds=None):
    codes = np.arange(len(signal)) if groups is None else np.asarray(groups)
    return clustered_auroc(
        signal, correct, codes, n_images=int(codes.max()) + 1, name="cell", folds=folds
    )


def _brute_force(signal, correct):
    """AUROC and DeLong's variance straight from the definition, all pairs."""
    positive, negative = signal[correct == 1], signal[correct == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    s10, s01 = np.var(kernel.mean(axis=1), ddof=1), np.var(kernel.mean(axis=0), ddof=1)
    return kernel.mean(), s10 / positive.size + s01 / negative.size


def _normal_scores(random, n, area):
    correct = random.integers(0, 2, n)
    return random.normal(size=n) + math.sqrt(2) * stats.norm.ppf(area) * correct, correct


def test_hand_worked_with_ties():
    # positives 3, 2; negatives 2, 1: pairs 1, 1, ½, 1 → 3.5/4
    assert auroc([3, 2, 2, 1], [1, 1, 0, 0]) == 0.875
    assert auroc([1, 1, 1, 1], [1, 1, 0, 0]) == 0.5
    assert auroc([0, 1], [1, 0]) == 0.0


@pytest.mark.parametrize("levels", [None, 11, 2])
def test_equals_brute_force_sklearn_and_brunner_munzel(levels):
    random = np.random.default_rng(0)
    signal, correct = _normal_scores(random, 150, 0.7)
    if levels:
        signal = np.digitize(signal, np.linspace(-2, 2, levels - 1)).astype(float)
    value, variance = _brute_force(signal, correct)
    point = clustered(signal, correct)
    assert point.value == pytest.approx(roc_auc_score(correct, signal), abs=1e-12)
    assert point.value == pytest.approx(value, abs=1e-12)
    assert point.se == pytest.approx(math.sqrt(variance), rel=1e-10)
    wrong, right = signal[correct == 0], signal[correct == 1]
    test = stats.brunnermunzel(wrong, right)
    assert replace(point, null_se=math.nan).p_against(0.5) == pytest.approx(test.pvalue, rel=1e-9)
    whitney = stats.mannwhitneyu(right, wrong, use_continuity=False, method="asymptotic")
    normal = 2 * stats.norm.sf(abs(value - 0.5) / point.null_se)
    assert normal == pytest.approx(whitney.pvalue, rel=1e-9)
    # The test takes the larger standard error.
    assert point.p_against(0.5) >= max(test.pvalue, whitney.pvalue) * (1 - 1e-9)


def test_strata_compare_only_within():
    # Within each stratum the signal is useless; across them it tells the strata apart.
    signal = np.array([1, 1, 1, 1, 9, 9, 9, 9.0])
    correct = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    assert auroc(signal, correct) > 0.7
    assert auroc(signal, correct, strata=[0, 0, 0, 0, 1, 1, 1, 1]) == 0.5
    random = np.random.default_rng(2)
    values, labels = _normal_scores(random, 200, 0.7)
    strata = random.integers(0, 4, 200)
    areas, pairs = [], []
    for s in range(4):
        here = strata == s
        areas.append(roc_auc_score(labels[here], values[here]))
        pairs.append(labels[here].sum() * (1 - labels[here]).sum())
    assert auroc(values, labels, strata=strata) == pytest.approx(np.average(areas, weights=pairs))


@pytest.mark.parametrize("stratified", [False, True])
def test_bootstrap_replicates_equal_sklearn_with_weights(stratified):
    random = np.random.default_rng(3)
    signal, correct = _normal_scores(random, 150, 0.65)
    signal = signal.round(1)  # ties
    groups = random.integers(0, 50, 150)
    strata = random.integers(0, 2, 150) if stratified else None
    resamples = resample_groups(groups, seed="s", n_boot=300)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples, strata=strata)
    for b in (0, 255, 256, 299):
        weight = resamples.weights[resamples.codes(groups), b].astype(float)
        if strata is None:
            expected = roc_auc_score(correct, signal, sample_weight=weight)
        else:
            rows = np.repeat(np.arange(150), weight.astype(int))
            expected = auroc(signal[rows], correct[rows], strata=strata[rows])
        assert boot.replicates[b] == pytest.approx(expected, abs=1e-12)


def test_clustered_standard_error_agrees_with_the_bootstrap():
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(300), 6)
    shared = random.normal(size=300)
    correct = (shared[groups] + random.normal(size=1800) > 0).astype(int)
    signal = shared[groups] + random.normal(size=1800)
    resamples = resample_groups(groups, seed="s", n_boot=1000)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples)
    found = clustered(signal, correct, groups)
    assert found.se == pytest.approx(boot.se, rel=0.1)
    assert found.se > 1.2 * clustered(signal, correct).se
    assert found.n_groups == 300


def test_clustering_narrows_the_interval_where_images_only_shift_the_signal():
    # An image's offset moves its right and its wrong items alike and cancels between them.
    random = np.random.default_rng(9)
    groups = np.repeat(np.arange(300), 6)
    correct = np.tile([0, 1], 900)
    signal = 3 * random.normal(size=300)[groups] + correct + random.normal(size=1800)
    resamples = resample_groups(groups, seed="s", n_boot=1000)
    boot = bootstrap_auroc(signal, correct, groups, resamples=resamples)
    found = clustered(signal, correct, groups)
    assert found.se == pytest.approx(boot.se, rel=0.1)
    assert found.se < 0.6 * clustered(signal, correct).se


def _two_strata():
    """60 items of which 20 are right and 90 of which 60 are; the signal tells in the first."""
    random = np.random.default_rng(11)
    strata = np.repeat(["a", "b"], [60, 90])
    correct = np.concatenate([np.arange(60) < 20, np.arange(90) < 60])
    signal = random.normal(size=150) + correct * np.where(strata == "a", 1.5, 0.0)
    return signal, correct, strata


def test_van_elterens_weights_by_hand():
    signal, correct, strata = _two_strata()
    found = stratified_auroc(signal, correct, np.arange(150), strata, n_images=150)
    # Van Elteren 1960: Σ U_k/(n_k + 1), here divided by its value where every pair is won.
    won = {s: roc_auc_score(correct[strata == s], signal[strata == s]) for s in "ab"}
    rank_sums = won["a"] * 20 * 40 / 61 + won["b"] * 60 * 30 / 91
    assert found.value == pytest.approx(rank_sums / (20 * 40 / 61 + 60 * 30 / 91), abs=1e-12)
    assert van_elteren_weight(20, 40) == pytest.approx(800 / 61)
    # Items of different images: the variances add up, with the squares of the weights.
    share = np.array([800 / 61, 1800 / 91]) / (800 / 61 + 1800 / 91)
    own = [clustered(signal[strata == s], correct[strata == s]).se for s in "ab"]
    assert found.se == pytest.approx(math.hypot(*(share * own)), rel=1e-3)


def test_what_tells_the_strata_apart_only_is_at_chance_within_them():
    random = np.random.default_rng(12)
    strata = np.repeat(["is", "what"], 400)
    correct = random.random(800) < np.where(strata == "is", 0.97, 0.18)
    signal = 2.0 * (strata == "is") + random.normal(size=800)
    assert auroc(signal, correct) > 0.8
    found = stratified_auroc(signal, correct, np.arange(800), strata, n_images=800)
    assert found.value == pytest.approx(0.5, abs=0.06)


def test_small_strata_are_left_out_and_named():
    signal, correct, strata = _two_strata()
    strata = strata.astype("<U9")
    strata[:6] = "tiny"
    found = stratified_auroc(signal, correct, np.arange(150), strata, n_images=150)
    assert "tiny (too few wrong answers: 0; too few right answers: 6)" in found.note
    without = strata != "tiny"
    again = stratified_auroc(
        signal[without], correct[without], np.arange(150)[without], strata[without], n_images=150
    )
    assert found.value == again.value
    assert found.n == 144


def test_a_cell_counts_images_and_not_items():
    signal, correct = np.arange(200.0), np.arange(200) < 150
    found = clustered(signal, correct, np.r_[np.arange(150), np.repeat(np.arange(9), 6)[:50]])
    assert math.isnan(found.value)
    assert found.note == "too few wrong answers: 50 on 9 images"


def test_perfect_separation_is_the_strongest_evidence():
    for turned, value in ((1, 1.0), (-1, 0.0)):
        found = auroc_estimate(clustered(turned * np.arange(100.0), np.arange(100) >= 20))
        assert found.value == value
        assert found.method == "exact"
        # 20 of 20 wrong items lie below: Clopper and Pearson's bound is 0.025^(1/20).
        reach = stats.binomtest(20, 20).proportion_ci(method="exact").low
        assert (found.low, found.high) == pytest.approx(
            (reach, 1.0) if value else (0.0, 1 - reach), abs=1e-9
        )
        # One of all (100 over 20) orders of labels is this one, another is its mirror image.
        assert found.p == pytest.approx(2 / math.comb(100, 20), rel=1e-9)


def test_a_constant_signal_is_said_to_be_one():
    found = auroc_estimate(clustered(np.ones(60), np.arange(60) < 30))
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert "one value only" in found.note


def test_few_constant_answers_show_no_equivalence():
    """Of ten wrong answers that are level with all others, a tenth may lie at an end in truth.

    Then the AUROC is 0.55, and of ten answers one has SD √(0.1 · 0.9) / 2, the mean that over √10.
    """
    few = clustered(np.ones(100), np.arange(100) >= 10)
    p = stats.t.sf(0.05 / (math.sqrt(0.1 * 0.9) / 2 / math.sqrt(10)), 9)
    assert (
        auroc_equivalence_p(few, margin=0.05) == pytest.approx(p) == pytest.approx(0.16, abs=0.01)
    )
    assert auroc_equivalence_p(clustered(np.ones(600), np.arange(600) >= 300), margin=0.05) < 0.001
    # Values that vary as any do are tested with their own standard error.
    random = np.random.default_rng(1)
    usual = clustered(random.normal(size=600), np.arange(600) >= 300)
    expected = equivalence_p(replace(usual, null_se=math.nan), low=0.45, high=0.55)
    assert auroc_equivalence_p(usual, margin=0.05) == pytest.approx(expected)


def test_separated_cells_have_the_lowest_mean_that_is_as_likely():
    """Clopper and Pearson's bound for a weighted mean of shares, by numerical optimisation."""
    sizes, weights = np.array([12.0, 40.0, 300.0]), np.array([0.4, 0.35, 0.25])
    parts = {}
    for i, n in enumerate(sizes.astype(int)):
        signal, codes = np.arange(2.0 * n), np.arange(2 * n) + 1000 * i
        parts[str(i)] = clustered_auroc(signal, signal >= n, codes, n_images=3000, name=str(i))
    found = auroc_estimate(mean_of(parts, n_groups=704, weights=list(weights)))
    lowest = optimize.minimize(
        lambda shares: weights @ shares, np.full(3, 0.97), bounds=[(1e-6, 1.0)] * 3,
        constraints={"type": "ineq", "fun": lambda s: sizes @ np.log(s) - math.log(0.025)},
    )  # fmt: skip
    assert found.low == pytest.approx(lowest.fun, abs=1e-5)
    assert found.high == 1.0


def test_equivalence_of_two_aurocs_is_that_of_the_interval_of_their_difference():
    random = np.random.default_rng(9)
    correct = np.arange(400) >= 60
    scores = random.normal(size=(2, 400)) * 0.3 + random.normal(size=400) + 2.5 * correct
    first, second = (clustered(one, correct) for one in scores)
    p = difference_equivalence_p(first, second, margin=0.05)
    ends = _difference_ends(first, second, 1 - 2 * p)
    assert max(-ends[0], ends[1]) == pytest.approx(0.05, abs=1e-6)
    assert 0 < p < 0.5
    assert difference_equivalence_p(first, second, margin=1e-6) == 1.0


def test_clustered_bootstrap_covers_a_planted_auroc():
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(80), 4)
    covered = 0
    for i in range(100):
        # The label is the image's: 80 independent looks, not 320.
        label = random.integers(0, 2, 80)
        signal = random.normal(size=80) + math.sqrt(2) * stats.norm.ppf(0.7) * label
        resamples = resample_groups(groups, seed=f"c{i}", n_boot=200)
        boot = bootstrap_auroc(signal[groups], label[groups], groups, resamples=resamples)
        estimate = boot.estimate()
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.87 <= covered / 100 <= 0.99


def test_one_class_is_said():
    resamples = resample_groups(range(40), seed="s", n_boot=10)
    for correct, name in ((np.ones(40), "wrong"), (np.zeros(40), "right")):
        assert math.isnan(auroc(np.arange(40), correct))
        assert clustered(np.arange(40), correct).note == f"too few {name} answers: 0"
        boot = bootstrap_auroc(np.arange(40), correct, range(40), resamples=resamples)
        assert math.isnan(boot.value)
        assert "no pair" in boot.note


def test_missing_signal_is_dropped_and_counted_and_infinity_is_ranked():
    signal = np.r_[np.nan, np.inf, np.arange(20.0), -np.inf]
    found = clustered(signal, np.r_[0, 1, np.arange(20) >= 10, 0])
    assert found.n == 22
    assert "1 of 23" in found.note
    assert found.value == 1.0


def test_row_order_does_not_matter():
    random = np.random.default_rng(7)
    signal, correct = _normal_scores(random, 100, 0.6)
    groups = random.integers(0, 30, 100)
    shuffle = random.permutation(100)
    results = []
    for rows in (np.arange(100), shuffle):
        resamples = resample_groups(groups[rows], seed="s", n_boot=100)
        boot = bootstrap_auroc(signal[rows], correct[rows], groups[rows], resamples=resamples)
        results.append((boot.value, boot.replicates))
    assert results[0][0] == results[1][0]
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-12)


def test_fast_enough_for_a_study():
    # 20 signals × 3 models × 2,000 resamples in well under a minute: one signal in under 0.5 s.
    random = np.random.default_rng(8)
    signal, correct = _normal_scores(random, 3090, 0.6)
    groups = random.integers(0, 1200, 3090)
    resamples = resample_groups(groups, seed="s", n_boot=2000)
    start = time.process_time()
    bootstrap_auroc(signal, correct, groups, resamples=resamples)
    assert time.process_time() - start < 1.0


def test_the_interval_of_a_difference_follows_from_both():
    """Of independent AUROCs the squared distances to the ends add up (Zou & Donner 2008)."""
    random = np.random.default_rng(3)
    labels = np.tile([True, False, False, True], 60)
    both = []
    for half, shift in ((0, 2.5), (1, 1.0)):
        images = np.arange(120) + 120 * half
        scores = random.normal(size=120) + shift * labels[images]
        both.append(
            clustered_auroc(scores, labels[images], images, n_images=240, name=f"half {half}")
        )
    one, other = map(auroc_estimate, both)
    found = auroc_difference(*both)
    assert found.value == one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    plain = difference(*both).interval()
    assert found.low == pytest.approx(min(found.value - below, plain[0]))
    assert found.high == pytest.approx(max(found.value + above, plain[1]))
    assert found.low < plain[0]  # the first lies near the end of the scale


def test_a_constant_signal_adds_nothing_to_the_interval_of_a_difference():
    random = np.random.default_rng(5)
    labels = np.tile([True, False], 100)
    scores = random.normal(size=200) + labels
    one, constant = clustered(scores, labels), clustered(np.ones(200), labels)
    found, alone = auroc_difference(one, constant), auroc_estimate(one)
    assert found.low == pytest.approx(alone.low - 0.5, abs=0.01)
    assert found.high == pytest.approx(alone.high - 0.5, abs=0.01)


def test_the_interval_of_a_difference_holds_the_truth_near_the_end_of_the_scale():
    """AUROC 0.95 and 0.90 of scores that hang together, with 15 wrong of 1,000."""
    random, n = np.random.default_rng(4), 1000
    right, images = np.arange(n) >= 15, np.arange(n)
    held, plain = 0, 0
    for _ in range(400):
        common = random.normal(size=n)
        both = [
            clustered_auroc(
                math.sqrt(0.7) * common + math.sqrt(0.3) * random.normal(size=n)
                + math.sqrt(2) * norm.ppf(area) * right,
                right, images, n_images=n, name="all",
            )
            for area in (0.95, 0.9)
        ]  # fmt: skip
        found = auroc_difference(*both)
        low, high = difference(*both).interval()
        held += found.low <= 0.05 <= found.high
        plain += low <= 0.05 <= high
    assert held / 400 >= 0.93
    assert plain / 400 < 0.93

"""Thresholds with a guarantee: binomial tails worked by hand, SciPy's, and simulated calibration.

Short simulations; `benchmarks/risk_control.py` makes long ones of the same.
"""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats
from simulated_risk import RISKS, simulated_risk

from vrp.errors import InputError
from vrp.stats.betting import betting_p
from vrp.stats.risk_control import (
    _by_betting,
    _Images,
    control_risk,
    excess_risk_p,
    fewest_items,
    most_wrong,
    one_item_per_group,
    risk_bound,
)


def test_fewest_items_by_hand():
    # 0.95^44 = 0.1047, 0.95^45 = 0.0994; 0.9^28 = 0.0523, 0.9^29 = 0.0471; 0.5² = 0.25.
    assert fewest_items(0.05, 0.1) == 45
    assert fewest_items(0.1, 0.05) == 29
    assert fewest_items(0.5, 0.25) == 2


@pytest.mark.parametrize(("n_wrong", "n", "delta"), [(0, 45, 0.1), (3, 80, 0.05), (7, 7, 0.1)])
def test_bound_is_scipys_one_sided_clopper_pearson(n_wrong, n, delta):
    test = stats.binomtest(n_wrong, n, alternative="less")
    expected = test.proportion_ci(1 - delta, method="exact").high
    assert risk_bound(n_wrong, n, delta) == pytest.approx(expected)


def test_most_wrong_by_hand():
    # B(10, 0.5): P(X ≤ 2) = 56/1024 = 0.0547, P(X ≤ 1) = 11/1024 = 0.0107. B(2, 0.5): P(0) = 0.25.
    assert most_wrong([10, 10, 2], 0.5, 0.06).tolist() == [2, 2, -1]
    assert most_wrong(10, 0.5, 0.05) == 1


def test_most_wrong_is_where_scipys_exact_test_rejects():
    for n in range(1, 200):
        few = [
            w for w in range(n + 1) if stats.binomtest(w, n, 0.1, alternative="less").pvalue <= 0.1
        ]
        assert most_wrong(n, 0.1, 0.1) == (max(few) if few else -1)


def test_all_right_is_accepted_and_counted():
    found = control_risk(np.arange(45.0), np.ones(45), alpha=0.05, delta=0.1)
    assert found.accepted == pytest.approx((0.0, 1.0, 45, 0, 0.0, 1 - 0.1 ** (1 / 45)))
    assert found.reason == ""
    assert found.accepts([-1.0, 0.0, np.nan]).tolist() == [False, True, False]


def test_too_few_items_accept_nothing():
    found = control_risk(np.arange(44.0), np.ones(44), alpha=0.05, delta=0.1)
    assert found.accepted is None
    assert found.first is None
    assert "at least 45" in found.reason
    assert not found.accepts([1e9]).any()


def test_wrong_answers_among_the_surest_accept_nothing():
    correct = np.ones(1000)
    correct[-100::2] = 0  # half of the surest hundred are wrong
    found = control_risk(np.arange(1000.0), correct, alpha=0.1, delta=0.1)
    assert found.accepted is None
    assert found.first.n == 128  # B(128, 0.1): 8 wrong rule out; B(128, 0.05): 80% have no more
    assert "50 of the 128 most confident answers are wrong" in found.reason


def test_threshold_is_the_lowest_that_the_binomial_tail_allows():
    """400 right above 400 wrong: accepted are 400 and as many wrong as the tail allows."""
    scores = np.arange(800.0)
    correct = scores >= 400
    found = control_risk(scores, correct, alpha=0.1, delta=0.1).accepted
    assert stats.binom.cdf(found.n_wrong, found.n, 0.1) <= 0.1
    step = math.ceil((800 - 128) / 99)
    assert stats.binom.cdf(found.n_wrong + step, found.n + step, 0.1) > 0.1
    assert found.threshold == scores[-found.n]


def test_ties_are_accepted_together():
    scores = np.repeat([3.0, 2.0, 1.0], [60, 100, 100])
    correct = np.ones(260)
    correct[160:] = 0
    found = control_risk(scores, correct, alpha=0.05, delta=0.1)
    assert found.accepted[:4] == (2.0, 160 / 260, 160, 0)
    assert found.accepts(scores).sum() == 160


def test_missing_scores_are_never_accepted_and_count_in_the_share():
    scores = np.concatenate([np.arange(100.0), np.full(100, np.nan)])
    found = control_risk(scores, np.ones(200), alpha=0.05, delta=0.1)
    assert (found.n, found.accepted.n, found.accepted.share) == (200, 100, 0.5)


def test_the_order_of_items_does_not_matter():
    random = np.random.default_rng(0)
    scores, correct = random.integers(0, 20, 500) / 20, random.random(500) < 0.9
    order = random.permutation(500)
    assert control_risk(scores, correct, alpha=0.1) == control_risk(
        scores[order], correct[order], alpha=0.1
    )


@pytest.mark.parametrize(("alpha", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 0.5)])
def test_levels_out_of_range(alpha, delta):
    with pytest.raises(InputError, match="out of range"):
        control_risk([1.0], [1], alpha=alpha, delta=delta)


def test_one_item_of_each_group_wherever_it_stands():
    groups = np.repeat([f"image {i}" for i in range(200)], 5)
    scores = np.random.default_rng(0).random(1000)
    chosen = one_item_per_group(groups, scores)
    assert len(set(groups[chosen])) == chosen.sum() == 200
    order = np.random.default_rng(1).permutation(1000)
    again = one_item_per_group(groups[order], scores[order])
    assert set(scores[order][again]) == set(scores[chosen])
    # Each rank of five is drawn in a fifth of the groups: B(200, 1/5) lies in 18…64 but once in
    # 10^5.
    ranks = np.argsort(np.argsort(scores.reshape(200, 5)))[chosen.reshape(200, 5)]
    counts = np.bincount(ranks, minlength=5)
    assert ((counts > 18) & (counts < 64)).all()


def test_the_item_drawn_is_that_of_the_digests_rank():
    scores = [0.2, 0.1, 0.3]
    rank = int(hashlib.sha256(b"g").hexdigest(), 16) % 3
    assert one_item_per_group(["g"] * 3, scores).tolist() == [
        score == (0.1, 0.2, 0.3)[rank] for score in scores
    ]
    with pytest.raises(InputError, match="one group per item"):
        one_item_per_group(["g"] * 3, scores[:2])


def images_of(n, m, *, seed=0, risk=0.3, shared=0.0):
    """(n · m,) scores, labels and images, the surer the likelier right; labels shared in part."""
    random = np.random.default_rng(seed)
    surest = np.repeat(random.random(n), m) * 0.5 + random.random(n * m) * 0.5
    drawn = np.where(
        np.repeat(random.random(n) < shared, m),
        np.repeat(random.random(n), m),
        random.random(n * m),
    )
    return surest, drawn >= 4 * risk * (1 - surest) ** 2, np.repeat(np.arange(n).astype(str), m)


def test_an_item_an_image_is_the_binomial_tail():
    scores, correct, groups = images_of(500, 1)
    assert control_risk(scores, correct, groups, alpha=0.1) == control_risk(
        scores, correct, alpha=0.1
    )


def test_few_items_an_image_are_the_binomial_tail_of_one_of_each():
    scores, correct, groups = images_of(500, 2)
    kept = np.arange(1000) % 40 < 21  # ten images in twenty with two, ten with one: mean (1/m) > ½
    kept |= np.arange(1000) % 2 == 0
    scores, correct, groups = scores[kept], correct[kept], groups[kept]
    one = one_item_per_group(groups, scores, correct)
    found = control_risk(scores, correct, groups, alpha=0.1)
    assert (found.test, found.n, found.n_items) == ("binomial", 500, 500)
    assert found == control_risk(scores[one], correct[one], alpha=0.1)


def test_betting_uses_all_items_in_any_order_and_says_so():
    scores, correct, groups = images_of(400, 4)
    found = control_risk(scores, correct, groups, alpha=0.1)
    assert (found.test, found.n, found.n_items) == ("betting", 400, 1600)
    order = np.random.default_rng(1).permutation(1600)
    assert control_risk(scores[order], correct[order], groups[order], alpha=0.1) == found
    some = scores >= found.accepted.threshold
    assert found.accepted.n == some.sum()
    assert found.accepted.n_wrong == (some & ~correct).sum()
    assert found.accepted.share == pytest.approx(some.mean())  # images of equal size
    assert found.accepted.risk == pytest.approx((~correct[some]).mean())
    assert found.accepted.risk < found.accepted.bound <= 0.1


def test_images_count_alike_however_many_items_they_hold():
    scores = np.concatenate([np.repeat(1.0, 200), np.repeat(0.0, 800)])
    groups = np.concatenate([np.arange(200) // 2, 100 + np.arange(800) // 8]).astype(str)
    found = control_risk(scores, np.arange(1000) < 200, groups, alpha=0.1)
    assert (found.accepted.n, found.accepted.share, found.accepted.risk) == (200, 0.5, 0.0)


def test_of_many_images_the_mean_of_several_is_one_value():
    scores, correct, groups = images_of(4100, 2)
    images = _Images.of(groups, scores, correct)
    given, wrong = images.shares(np.array([0.8, 0.5]))
    assert (images.size, given.shape) == (3, (1367, 2))  # 1,366 of three images and one of two
    order = sorted(range(4100), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    for batch in (0, 700, 1366):
        some = np.isin(groups.astype(int), order[3 * batch : 3 * batch + 3])
        for column, threshold in enumerate((0.8, 0.5)):
            above = scores[some] >= threshold
            assert given[batch, column] == pytest.approx(above.mean())
            assert wrong[batch, column] == pytest.approx((above & ~correct[some]).mean())
    found = control_risk(scores, correct, groups, alpha=0.1).accepted
    some = scores >= found.threshold
    assert found.share == pytest.approx(some.mean())
    assert found.risk == pytest.approx((~correct[some]).mean())
    assert found.risk < found.bound <= 0.1


def test_copies_of_an_item_add_no_certainty():
    scores, correct, groups = images_of(600, 1, risk=0.2)
    singles = _by_betting(_Images.of(groups, scores, correct), 0.1, 0.1)
    copies = control_risk(*(np.repeat(part, 5) for part in (scores, correct, groups)), alpha=0.1)
    assert singles.accepted is not None
    for name in ("threshold", "share", "risk", "bound"):
        assert getattr(copies.accepted, name) == pytest.approx(getattr(singles.accepted, name))


def test_the_bound_is_the_least_risk_that_the_test_rules_out():
    scores, correct, groups = images_of(400, 4)
    found = control_risk(scores, correct, groups, alpha=0.1).accepted
    images = _Images.of(groups, scores, correct)
    given, wrong = images.shares(np.array([found.threshold]))
    for risk, holds in ((found.bound, True), (found.bound - 0.1 / 200, False)):
        p = betting_p(wrong - risk * given, low=-risk, high=1 - risk, level=0.1, n_seen=40)
        assert (p[0] <= 0.1) == holds


def test_wrong_answers_among_the_surest_of_several_items_accept_nothing():
    scores, correct, groups = images_of(300, 3, risk=0.0)
    correct[scores > 0.7] = False
    found = control_risk(scores, correct, groups, alpha=0.1)
    assert found.accepted is None
    assert found.first.bound > found.first.risk > 0.5
    assert "most confident answers are wrong" in found.reason


@pytest.mark.parametrize("n", [1, 20])
def test_too_few_images_of_several_items_accept_nothing(n):
    found = control_risk(*images_of(n, 5, risk=0.0), alpha=0.1)
    assert (found.accepted, found.first) == (None, None)
    assert "at least 22, each of another image" in found.reason
    assert control_risk([np.nan] * 90, [1] * 90, np.arange(90) // 3, alpha=0.1).first is None


def test_groups_are_one_per_item():
    with pytest.raises(InputError, match="one group per item"):
        control_risk([1.0, 2.0], [1, 0], ["a"], alpha=0.1)


def test_betting_accepts_more_than_one_item_of_each_image():
    """Mean over calibrations of 300 images with five questions each."""
    betting, one = [], []
    for seed in range(20):
        scores, correct, groups = images_of(300, 5, seed=seed, risk=0.2)
        chosen = one_item_per_group(groups, scores, correct)
        controls = (
            control_risk(scores, correct, groups, alpha=0.1),
            control_risk(scores[chosen], correct[chosen], alpha=0.1),
        )
        for shares, control in zip((betting, one), controls, strict=True):
            shares.append(control.accepts(scores).mean())
    assert np.mean(betting) > np.mean(one) + 0.02


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_betting_holds_where_the_risk_is_alpha_at_every_threshold(shared):
    """Labels of an image independent, and all the same; any acceptance breaks the guarantee."""
    random, broken = np.random.default_rng(3), 0
    groups = np.repeat(np.arange(100).astype(str), 4)
    for _ in range(200):
        own, of_image = random.random(400), np.repeat(random.random(100), 4)
        correct = (of_image if shared else own) >= 0.2
        scores = of_image[::-1] + random.random(400)
        broken += control_risk(scores, correct, groups, alpha=0.2).accepted is not None
    # 200 calibrations with a chance of 0.1: more than 34 fail once in a thousand.
    assert broken <= 34


def test_excess_risk_of_single_items_is_scipys_binomial_test():
    random = np.random.default_rng(0)
    accepted, correct = random.random(300) < 0.5, random.random(300) < 0.7
    n_wrong = int((accepted & ~correct).sum())
    expected = stats.binomtest(n_wrong, int(accepted.sum()), 0.2, alternative="greater").pvalue
    found = excess_risk_p(accepted, correct, np.arange(300), alpha=0.2, level=0.05)
    assert found == pytest.approx(expected)
    assert math.isnan(
        excess_risk_p(accepted & False, correct, np.arange(300), alpha=0.2, level=0.05)
    )
    with pytest.raises(InputError, match="299 labels"):
        excess_risk_p(accepted, correct[1:], np.arange(300), alpha=0.2, level=0.05)


def test_excess_risk_of_several_items_is_found_and_not_invented():
    random = np.random.default_rng(0)
    groups, accepted = np.repeat(np.arange(200), 4), np.repeat(True, 800)

    def p(risk):
        return excess_risk_p(accepted, random.random(800) >= risk, groups, alpha=0.2, level=0.05)

    assert p(0.3) < 0.01
    assert p(0.1) > 0.5
    # 300 tests with a chance of 0.05: more than 27 reject once in a thousand.
    assert sum(p(0.2) <= 0.05 for _ in range(300)) <= 27


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_guarantee_in_simulation(risk, alpha, levels):
    """The true risk of what is accepted exceeds alpha in no more than delta of calibrations."""
    found = simulated_risk(risk, n=600, alpha=alpha, delta=0.1, levels=levels, repeats=400)
    # 400 calibrations with a chance of 0.1: more than 57 fail once in a thousand.
    assert found.violations <= 57 / 400

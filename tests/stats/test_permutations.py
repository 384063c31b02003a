"""Permutations that keep what the items of one image have in common."""

import numpy as np
import pytest

from vrp.signals.heads import top_head_r2
from vrp.stats.permutations import permutation_in_runs


def test_images_of_one_size_exchange_their_labels_as_wholes():
    groups = np.repeat(np.arange(30), 4)
    labels = 10 * groups + np.tile(np.arange(4), 30)
    source, target = permutation_in_runs(groups, np.random.default_rng(0))
    found = np.empty_like(labels)
    found[target] = labels[source]
    assert sorted(found) == sorted(labels)
    from_image = found // 10
    assert all(len(set(from_image[groups == image])) == 1 for image in range(30))
    assert (from_image != groups).any()
    assert (found % 10 != labels % 10).any()


def test_images_of_any_size_and_order():
    groups = np.array([2, 0, 1, 2, 2, 0])
    source, target = permutation_in_runs(groups, np.random.default_rng(1))
    assert sorted(source) == sorted(target) == list(range(6))
    for order in (source, target):
        changes = (np.diff(groups[order]) != 0).sum()
        assert changes == 2  # each image is one run


@pytest.mark.parametrize(("in_runs", "low", "high"), [(True, 0.0, 0.12), (False, 0.2, 1.0)])
def test_noise_of_images_is_found_no_more_often_than_promised(in_runs, low, high):
    """R² of heads on answers, of 10 questions an image that hang together, and know nothing."""
    random, n_images, each = np.random.default_rng(2), 30, 10
    groups = np.repeat(np.arange(n_images), each)
    found = 0
    for _ in range(100):
        right = random.normal(size=n_images)[groups] + random.normal(size=groups.size) < 0.7
        heads = random.normal(size=(n_images, 3))[groups] + random.normal(size=(groups.size, 3))
        permuted = np.empty((groups.size, 60))
        for column in permuted.T:
            source, target = permutation_in_runs(groups, random)
            if not in_runs:
                source, target = random.permutation(groups.size), np.arange(groups.size)
            column[target] = right[source]
        fit = top_head_r2(heads, right, np.arange(3), [3], permuted=permuted)
        found += fit.p[0] < 0.05
    assert low <= found / 100 <= high

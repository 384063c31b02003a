"""The interventions' subset: stratified, nested, and a function of ids alone."""

from collections import Counter

import polars as pl
import pytest

from vrp.data.intervention_items import other_image_items, stratified_subset
from vrp.errors import InputError


def items_of(**sizes: int) -> pl.DataFrame:
    rows = [
        {"item_id": f"{task}/{i}", "task": task, "group": f"image {i % 7}"}
        for task, size in sizes.items()
        for i in range(size)
    ]
    return pl.DataFrame(rows)


def test_tasks_keep_their_shares_by_largest_remainders():
    # The demo study: 1,000 of 3,090 give quotas 323.62 (three times) and 29.13; the floors sum
    # to 998, and the two places left go to the first two of the equal largest remainders.
    subset = stratified_subset(
        items_of(existence=1000, counting=1000, spatial=1000, open=90), 1000, seed=0
    )
    counts = Counter(subset["task"])
    assert counts == {"counting": 324, "existence": 324, "spatial": 323, "open": 29}


def test_the_subset_depends_on_seed_and_ids_but_not_on_order():
    items = items_of(counting=60, open=40)
    shuffled = items.sample(fraction=1, shuffle=True, seed=3)
    subset = stratified_subset(items, 30, seed=1)
    assert subset.equals(stratified_subset(shuffled, 30, seed=1))
    assert not subset.equals(stratified_subset(items, 30, seed=2))


def test_a_subset_of_a_subset_is_taken_in_the_same_order():
    items = items_of(counting=80)
    large = stratified_subset(items, 40, seed=1)
    small = stratified_subset(large, 10, seed=1)
    assert small.equals(stratified_subset(items, 10, seed=1))


def test_a_small_study_is_taken_whole():
    items = items_of(counting=3, open=2)
    assert stratified_subset(items, 1000, seed=0).height == 5


def test_the_other_item_shows_another_image():
    items = items_of(counting=30)
    others = other_image_items(items, seed=4)
    group_of = dict(items.select("item_id", "group").iter_rows())
    assert set(others) == set(group_of)
    assert all(group_of[one] != group_of[other] for one, other in others.items())
    assert len(set(others.values())) > 15  # spread over the study, not one image for all


def test_another_image_needs_another_image():
    items = items_of(counting=3).with_columns(group=pl.lit("one"))
    with pytest.raises(InputError, match="at least two images"):
        other_image_items(items, seed=0)

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.probing.folds import ProbeItems, assign_folds, plan_all_items, plan_folds


def test_an_image_lies_in_one_fold_and_every_item_is_tested_once(planted):
    items = planted().items
    plan = plan_folds(items, n_folds=5, seed="s")
    for image in np.unique(items.group):
        assert np.unique(plan.fold[items.group == image]).size == 1
    tested = np.concatenate([split.test for split in plan.splits])
    assert sorted(tested.tolist()) == list(range(items.n_items))
    for split in plan.splits:
        assert not set(items.group[split.train]) & set(items.group[split.test])
        for image in np.unique(items.group[split.train]):
            assert np.unique(split.inner[items.group[split.train] == image]).size == 1


def test_tasks_and_labels_are_spread_evenly(planted):
    items = planted(900).items
    fold = assign_folds(items, n_folds=5, seed="s")
    for task in ("counting", "existence"):
        for correct in (True, False):
            here = (items.task == task) & (items.correct == correct)
            shares = np.bincount(fold[here], minlength=5) / here.sum()
            assert np.abs(shares - 0.2).max() < 0.05


def test_row_order_does_not_matter_and_the_seed_does(planted):
    made = planted()
    items, shuffle = made.items, made.random.permutation(600)
    shuffled = ProbeItems.of(
        items.item_id[shuffle], items.correct[shuffle], items.group[shuffle], items.task[shuffle]
    )
    first, second = plan_folds(items, seed="s"), plan_folds(shuffled, seed="s")
    assert (first.fold[shuffle] == second.fold).all()
    for one, two in zip(first.splits, second.splits, strict=True):
        assert (items.item_id[one.train] == shuffled.item_id[two.train]).all()
        assert (one.inner == two.inner).all()
    assert (plan_folds(items, seed="t").fold != first.fold).any()


def test_rare_strata_are_spread_as_far_as_they_go(planted):
    items = planted().items
    correct = np.ones(600, dtype=bool)
    correct[:3] = False  # fewer wrong items than folds
    fold = assign_folds(items.with_labels(correct), n_folds=5, seed="s")
    assert set(fold) == set(range(5))


def test_bad_input_is_refused():
    ids = ["a", "b", "c"]
    with pytest.raises(InputError, match="found 2 images"):
        assign_folds(ProbeItems.of(ids, [0, 1, 1], ["x", "x", "y"], ["t"] * 3), seed="s")
    with pytest.raises(InputError, match="item 'b' occurs twice"):
        ProbeItems.of(["a", "b", "b"], [0, 1, 1], ids, ids)
    with pytest.raises(InputError, match="one value per item"):
        ProbeItems.of(ids, [0, 1, 1], ids, ["t"])
    with pytest.raises(InputError, match="inner folds"):
        plan_folds(ProbeItems.of(ids, [0, 1, 1], ids, ids), n_folds=2, n_inner=1, seed="s")


def test_the_plan_of_all_items_holds_nothing_out_and_keeps_images_whole(planted):
    items = planted().items
    judged = np.arange(items.n_items) % 5 != 0
    items = ProbeItems.of(items.item_id, items.correct, items.group, items.task, judged)
    (split,) = plan_all_items(items, n_inner=3, seed="s").splits
    assert split.test.size == 0
    assert sorted(split.train) == np.flatnonzero(judged).tolist()
    assert list(items.item_id[split.train]) == sorted(items.item_id[judged])
    folds_of = {}
    for row, fold in zip(split.train, split.inner, strict=True):
        folds_of.setdefault(items.group[row], set()).add(fold)
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert set(split.inner) == {0, 1, 2}
    with pytest.raises(InputError, match="at least 2 inner folds"):
        plan_all_items(items, n_inner=1, seed="s")

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.probing.baselines import (
    answer_only,
    permute_labels,
    question_only,
    task_only,
)
from vrp.probing.folds import ProbeItems, plan_folds
from vrp.probing.linear import fit_linear
from vrp.stats.auroc import auroc, auroc_estimate, clustered_auroc
from vrp.stats.clusters import numbered


def test_task_only_wins_pooled_and_is_exactly_chance_within_task(planted):
    made = planted(900)
    plan = plan_folds(made.items, seed="s")
    result = task_only(made.items, plan)
    assert auroc(result.scores, made.items.correct, strata=plan.fold) > 0.58
    for task in ("counting", "existence"):
        here = made.items.task == task
        assert auroc(result.scores[here], made.items.correct[here], strata=plan.fold[here]) == 0.5


def test_task_only_scores_are_smoothed_training_rates(planted):
    made = planted(300)
    plan = plan_folds(made.items, seed="s")
    result = task_only(made.items, plan)
    split = plan.splits[1]
    labels, tasks = made.items.correct[split.train], made.items.task[split.train]
    counting = labels[tasks == "counting"]
    expected = (counting.sum() + labels.mean()) / (counting.size + 1)
    here = made.items.task[split.test] == "counting"
    assert result.scores[split.test][here] == pytest.approx(expected)


def test_answer_only_sees_the_answer(planted):
    made = planted(900)
    answers = np.where(made.random.random(900) < 0.5, "yes", "no").astype(object)
    # "yes" is right nine times in ten, "no" one time in two.
    right = made.random.random(900) < np.where(answers == "yes", 0.9, 0.5)
    items = made.items.with_labels(right)
    answers[0] = "never seen again"
    plan = plan_folds(items, seed="s")
    result = answer_only(answers, items, plan)
    # P(yes | right) = 0.45/0.7, P(yes | wrong) = 0.05/0.3; ties half.
    yes_right, yes_wrong = 0.45 / 0.7, 0.05 / 0.3
    area = 0.5 + (yes_right - yes_wrong) / 2
    assert auroc(result.scores, items.correct, strata=plan.fold) == pytest.approx(area, abs=0.04)
    train = plan.splits[int(plan.fold[0])].train
    assert result.scores[0] == pytest.approx(items.correct[train].mean())


def test_question_only_reads_words(planted):
    made = planted(600)
    kinds = made.random.integers(0, 3, 600)
    questions = np.array(["How many cats?", "Is there a dog?", "What is left of it?"])[kinds]
    items = made.items.with_labels(made.random.random(600) < np.array([0.2, 0.9, 0.5])[kinds])
    plan = plan_folds(items, seed="s")
    telling = question_only(questions, items, plan)
    assert auroc(telling.scores, items.correct, strata=plan.fold) > 0.75
    nothing = question_only([f"word{i}" for i in range(600)], items, plan)
    assert auroc(nothing.scores, items.correct, strata=plan.fold) == 0.5


def test_permuted_labels_keep_each_task_rate_and_bring_a_probe_to_chance(planted):
    made = planted(1200)
    permuted = permute_labels(made.items, seed="s")
    for task in ("counting", "existence"):
        here = made.items.task == task
        assert permuted.correct[here].sum() == made.items.correct[here].sum()
    assert 0.3 < np.mean(permuted.correct != made.items.correct) < 0.6
    states = np.column_stack([made.evidence, made.random.normal(size=(1200, 5))])
    true_plan, null_plan = plan_folds(made.items, seed="s"), plan_folds(permuted, seed="s")
    true = fit_linear(states, made.items, true_plan)
    null = fit_linear(states, permuted, null_plan)
    task = made.items.task == "counting"
    assert auroc(true.scores, made.items.correct, strata=2 * true_plan.fold + task) > 0.75
    codes, n_images = numbered(permuted.group)
    chance = auroc_estimate(
        clustered_auroc(
            null.scores, permuted.correct, codes,
            n_images=n_images, name="all", folds=2 * null_plan.fold + task,
        )
    )  # fmt: skip
    assert chance.low < 0.5 < chance.high


def test_permutation_ignores_row_order_and_keeps_images_together():
    n = 400
    group = np.array([f"g{i // 4:03d}" for i in range(n)])
    correct = np.repeat(np.random.default_rng(0).integers(0, 2, n // 4), 4)  # the image's label
    items = ProbeItems.of(np.arange(n), correct, group, np.full(n, "t"))
    permuted = permute_labels(items, seed="s")
    per_image = permuted.correct.reshape(-1, 4).sum(axis=1)
    assert set(per_image.tolist()) == {0, 4}  # images of equal size swap their labels whole
    shuffle = np.random.default_rng(1).permutation(n)
    shuffled = ProbeItems.of(
        items.item_id[shuffle], correct[shuffle], group[shuffle], items.task[shuffle]
    )
    assert (permute_labels(shuffled, seed="s").correct == permuted.correct[shuffle]).all()
    assert (permute_labels(items, seed="t").correct != permuted.correct).any()


def test_wrong_lengths_are_refused(planted):
    made = planted(100)
    plan = plan_folds(made.items, seed="s")
    with pytest.raises(InputError, match="one text per item"):
        question_only(["a"], made.items, plan)
    with pytest.raises(InputError, match="one text per item"):
        answer_only(["a"] * 99, made.items, plan)

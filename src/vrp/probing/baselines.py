"""Baselines and guards: what a probe could reach without reading reliability.

A probe over four tasks can win by recognising the task, the kind of question or the answer that
was given; these baselines see only that. Label permutation shows what chance looks like here.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from vrp.errors import InputError
from vrp.probing.crossfit import Fitted, ProbeResult, TrainingPart, cross_fit
from vrp.probing.folds import FoldPlan, ProbeItems
from vrp.probing.linear import fit_penalised
from vrp.stats.bootstrap import generator
from vrp.stats.permutations import permutation_in_runs

PRIOR_ITEMS = 1.0
"""Weight of the overall rate in a category's rate, in items."""
TEXT_PENALTIES = (0.1, 1.0, 10.0)
MIN_QUESTIONS = 2
"""A word pattern must occur in at least so many training questions."""


# Scatter of a permutation's AUROC over that of independent ranks (seen: 1.2 to 1.7); of the mean.
_EXCESS_SCATTER, _MEAN_SCATTER = 1.5, 0.0045
_FEWEST, _MOST = 20, 100


def _category_rates(part: TrainingPart, test: NDArray[Any]) -> Fitted:
    """Rate right of each category in the training part, drawn a little towards the overall rate."""
    overall = float(part.correct.mean())
    names, codes = np.unique(part.features, return_inverse=True)
    n, right = np.bincount(codes), np.bincount(codes, weights=part.correct)
    rates = dict(
        zip(names.tolist(), ((right + PRIOR_ITEMS * overall) / (n + PRIOR_ITEMS)), strict=True)
    )
    return Fitted(np.array([float(rates.get(name, overall)) for name in test.tolist()]))


def _text_column(values: Sequence[str] | NDArray[Any], *, n_items: int, name: str) -> NDArray:
    if np.shape(values) != (n_items,):
        raise InputError(f"{name}: one text per item is needed, found {len(values)} of {n_items}")
    # Objects: with numpy's own strings, one long text would make room for as many letters in all.
    texts = np.empty(n_items, dtype=object)
    texts[:] = ["" if value is None else str(value) for value in values]
    return texts


def task_only(items: ProbeItems, plan: FoldPlan) -> ProbeResult:
    """Sees only the task: the rate right of the task in the training part."""
    tasks = _text_column(items.task, n_items=items.n_items, name="task only")
    return cross_fit("task only", tasks, items, plan, _category_rates)


def answer_only(
    answers: Sequence[str] | NDArray[Any], items: ProbeItems, plan: FoldPlan
) -> ProbeResult:
    """Sees only the emitted answer: the rate right of that answer in the training part.

    Args:
        answers: (n,) normalised answers; one never seen in training gets the overall rate.
        items: the items.
        plan: their splits.

    Raises:
        InputError: not one answer per item.
    """
    texts = _text_column(answers, n_items=items.n_items, name="answer only")
    return cross_fit("answer only", texts, items, plan, _category_rates)


def _question_learner(part: TrainingPart, test: NDArray[Any]) -> Fitted:
    vectoriser = TfidfVectorizer(
        ngram_range=(1, 2), min_df=MIN_QUESTIONS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"
    )
    try:
        train = vectoriser.fit_transform(part.features)
    except ValueError:  # no word pattern occurs often enough: questions tell nothing
        rate = float(part.correct.mean())
        return Fitted(np.full(test.size, rate))
    return fit_penalised(train, part, vectoriser.transform(test), TEXT_PENALTIES)


def question_only(
    questions: Sequence[str] | NDArray[Any], items: ProbeItems, plan: FoldPlan
) -> ProbeResult:
    """Sees only the question's words: TF-IDF of words and word pairs, L2 logistic.

    Args:
        questions: (n,)
        items: the items.
        plan: their splits.

    Raises:
        InputError: not one question per item.
    """
    texts = _text_column(questions, n_items=items.n_items, name="question only")
    return cross_fit("question only", texts, items, plan, _question_learner)


def random_features(items: ProbeItems, width: int, *, seed: str) -> NDArray[np.float32]:
    """(n, width) standard normal noise in place of hidden states: what a probe of that many weights
    finds where there is nothing. Each item's noise follows from its id.
    """
    found = np.empty((items.n_items, width), dtype=np.float32)
    for row, item_id in enumerate(items.item_id.tolist()):
        found[row] = generator("random features", seed, str(item_id)).standard_normal(width)
    return found


def n_permutations(items: ProbeItems) -> int:
    """How many permutations of the labels tell a leak from none: 20 to 100.

    The AUROC of one scatters by about half as much again as one of independent ranks does (Mann &
    Whitney 1947), since layer and penalty are picked, too; their mean is to scatter by a quarter of
    the leak that the guard looks for.
    """
    judged = items.correct[items.judged]
    n, n_right = judged.size, int(judged.sum())
    n_pairs = max(n_right * (n - n_right), 1)
    variance = _EXCESS_SCATTER**2 * (n + 1) / (12 * n_pairs)
    return min(max(_FEWEST, math.ceil(variance / _MEAN_SCATTER**2)), _MOST)


def permute_labels(items: ProbeItems, *, seed: str) -> ProbeItems:
    """The items with their labels permuted within each task, in runs of an image.

    The labels of one image's items stay together where they land, so that the permuted labels
    hang together within images about as much as the true ones. Plan new folds for the result
    (the old ones are stratified by the true labels). Does not depend on the order of rows.

    Args:
        items: the items.
        seed: names the permutation.
    """
    permuted = items.correct.copy()
    order = np.argsort(items.item_id, kind="stable")
    for task in np.unique(items.task):
        rows = order[(items.task[order] == task) & items.judged[order]]
        groups = np.unique(items.group[rows], return_inverse=True)[1]
        random = generator("permute labels", seed, str(task))
        source, target = permutation_in_runs(groups, random)
        permuted[rows[target]] = items.correct[rows[source]]
    return items.with_labels(permuted)

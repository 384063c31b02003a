"""Studies with a known truth: items on images, answers, scores of signals, and interventions."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.planning.workload import n_images_of
from vrp.stats.auroc import van_elteren_weight

WRONG = 0.3
"""Share of wrong answers that a study is taken to have where nothing is known."""
ANSWERS = 2
"""Different answers to the questions of a split, where nothing is known."""
ANSWER_ODDS = 2.0
"""Odds of being right with the most reliable answer, over those with the least reliable one. On the
embedded scenes: 1.4 to 2.1 for existence, 2.9 to 4.3 for counting."""
CORRELATION = 0.32
"""Correlation of two attention signals. Mean absolute rank correlation of all pairs within task ×
answer form, on the embedded scenes: LLaVA 0.34, PaliGemma 0.34, Qwen2-VL 0.28."""
SHARED_SCORES = 0.6
"""Share of the variance of an attention signal that the questions of one image have in common. Mean
over signals on the embedded scenes: LLaVA 0.58, PaliGemma 0.62, Qwen2-VL 0.65."""
SHARED_ANSWERS = 0.2
"""The same of what makes an answer right, or an intervention change it: a cautious value, since the
embedded scenes have less than 0.05."""


# Between two answers, in standard deviations of the score.
_STEP = 2.0
_T = TypeVar("_T", int, float)


class Pool(NamedTuple):
    """Images that the questions of a split are about; pools of one folder share images."""

    folder: str
    n_images: int


class Design(NamedTuple):
    """Counts of a study."""

    study: str
    splits: tuple[str, ...]
    """Names, `dataset/split`."""
    counts: tuple[int, ...]
    """Items of each."""
    wrong: tuple[float, ...]
    """Share of wrong answers in each."""
    answers: tuple[int, ...]
    """Different answers in each, all as frequent."""
    pools: tuple[Pool, ...]
    """Images of each."""
    n_intervened: int
    """Items of the interventions."""
    per_image: int | None = None
    """Questions that share an image, of whatever split; None: as the pools give it."""
    answer_odds: float = ANSWER_ODDS
    """Odds of being right with the most reliable answer, over those with the least reliable."""

    @classmethod
    def of(
        cls,
        study: StudyConfig,
        *,
        wrong: Sequence[float] = (WRONG,),
        answers: Sequence[int] = (ANSWERS,),
        answer_odds: float = ANSWER_ODDS,
        per_image: int | None = None,
    ) -> "Design":
        """Take the counts and the data of a configuration.

        Args:
            study: the configuration.
            wrong: share of wrong answers, of all splits or one for each.
            answers: different answers, of all splits or one for each.
            answer_odds: of the most reliable answer over the least.
            per_image: questions that share an image; None: by the study's data.

        Raises:
            InputError: neither one value nor one for each split, or one that cannot be.
        """
        splits = study.sample.splits
        names = tuple(f"{split.dataset}/{split.split}" for split in splits)
        if not all(0 < share < 1 for share in wrong):
            raise InputError(f"--wrong: a share must be between 0 and 1, found {list(wrong)}")
        if min(answers, default=1) < 1 or not answer_odds > 0:
            raise InputError("--answers must be at least 1, and --answer-odds above 0")
        if per_image is not None and per_image < 1:
            raise InputError(f"--questions-per-image: at least 1, found {per_image}")
        total = sum(split.count for split in splits)
        return cls(
            study.study, names, tuple(split.count for split in splits),
            _of_each("--wrong", wrong, names), _of_each("--answers", answers, names),
            tuple(_pool(study, split.dataset, name, split.count)
                  for split, name in zip(splits, names, strict=True)),
            min(study.mask.items, total), per_image, answer_odds,
        )  # fmt: skip


def _of_each(option: str, values: Sequence[_T], splits: Sequence[str]) -> tuple[_T, ...]:
    found = tuple(values) * (len(splits) if len(values) == 1 else 1)
    if len(found) != len(splits):
        raise InputError(
            f"{option}: {len(found)} values for {len(splits)} splits; give one for all, or one for "
            f"each of {', '.join(splits)}"
        )
    return found


def _pool(study: StudyConfig, dataset: str, split: str, count: int) -> Pool:
    n_images = n_images_of(study, dataset)
    if n_images is None:  # each question has an image of its own
        return Pool(split, count)
    return Pool(study.data.places(dataset).images, n_images)


class Items(NamedTuple):
    """Items of one simulated study."""

    strata: NDArray[np.int64]
    """(n,) split of each."""
    groups: NDArray[np.int64]
    """(n,) image of each, numbered from 0."""
    answers: NDArray[np.int64]
    """(n,) emitted answer of each, the least reliable first."""
    correct: NDArray[np.bool_]
    """(n,)"""

    @property
    def n_images(self) -> int:
        """Images of all splits."""
        return int(self.groups.max()) + 1

    @property
    def answer_strata(self) -> NDArray[np.int64]:
        """(n,) split and emitted answer of each."""
        return self.strata * (int(self.answers.max()) + 1) + self.answers


def draw_items(design: Design, random: np.random.Generator) -> Items:
    """Draw images, emitted answers, and which of them are right; one image's hang together."""
    strata = np.repeat(np.arange(len(design.counts)), design.counts)
    groups = draw_groups(design, random)
    answers = random.integers(0, np.array(design.answers)[strata])
    accuracy = np.zeros((len(design.counts), max(design.answers)))
    for split, n_answers in enumerate(design.answers):
        accuracy[split, :n_answers] = accuracy_by_answer(design, split)
    latent = _with_shared(random, groups, SHARED_ANSWERS)
    return Items(strata, groups, answers, latent < norm.ppf(accuracy[strata, answers]))


def accuracy_by_answer(design: Design, split: int) -> NDArray[np.float64]:
    """(n_answers,) share right of each answer of a split, evenly spaced in log-odds."""
    n_answers, right = design.answers[split], 1 - design.wrong[split]
    steps = math.log(design.answer_odds) * np.linspace(-0.5, 0.5, n_answers if n_answers > 1 else 1)
    if n_answers == 1:
        return np.array([right])
    reach = 50 + abs(math.log(design.answer_odds))
    middle = brentq(lambda at: float(expit(at + steps).mean()) - right, -reach, reach)
    return expit(middle + steps)


def draw_groups(design: Design, random: np.random.Generator) -> NDArray[np.int64]:
    """(n,) image of each item, numbered from 0.

    The images of a split are drawn evenly: none has two questions more than another. Of pools in
    one folder the smaller holds the first images of the larger.
    """
    if design.per_image is not None:
        return random.permutation(sum(design.counts)) // design.per_image
    sizes: dict[str, int] = {}
    for pool in design.pools:
        sizes[pool.folder] = max(sizes.get(pool.folder, 0), pool.n_images)
    ends = np.cumsum(list(sizes.values()))
    first = dict(zip(sizes, (ends - list(sizes.values())).tolist(), strict=True))
    found = []
    for pool, count in zip(design.pools, design.counts, strict=True):
        times = math.ceil(count / pool.n_images)
        images = np.tile(random.permutation(pool.n_images), times)[:count]
        found.append(first[pool.folder] + images)
    return np.unique(np.concatenate(found), return_inverse=True)[1].astype(np.int64)


def draw_scores(
    items: Items, n_signals: int, random: np.random.Generator, *, correlation: float
) -> NDArray[np.float64]:
    """(n_signals, n) normal scores that know nothing of the answers, correlated in pairs."""
    common = _with_shared(random, items.groups, SHARED_SCORES)
    own = [_with_shared(random, items.groups, SHARED_SCORES) for _ in range(n_signals)]
    return math.sqrt(correlation) * common + math.sqrt(1 - correlation) * np.array(own)


def telling(
    scores: NDArray[np.float64], correct: NDArray[np.bool_], auroc: float
) -> NDArray[np.float64]:
    """(n,) scores moved where the answer is right, so that this is their AUROC.

    Over items of different images, within strata and within one answer alike.
    """
    return scores + math.sqrt(2) * norm.ppf(auroc) * correct


def knowing_answers(scores: NDArray[np.float64], answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) scores moved by which answer was emitted, whether it is right or not."""
    return scores + _STEP * answers


def auroc_of_answers(design: Design) -> float:
    """AUROC within strata of `knowing_answers`, over items of different images."""
    total = value = 0.0
    for split, (count, wrong) in enumerate(zip(design.counts, design.wrong, strict=True)):
        right = accuracy_by_answer(design, split)
        steps = _STEP * np.arange(right.size)
        wins = norm.cdf((steps[:, None] - steps) / math.sqrt(2))
        weight = van_elteren_weight(round(count * (1 - wrong)), round(count * wrong))
        value += weight * float(right @ wins @ (1 - right)) / (right.sum() * (1 - right).sum())
        total += weight
    return float(value / total) if total else math.nan


class Intervened(NamedTuple):
    """Answers of the same items before and after an intervention."""

    before: NDArray[np.bool_]
    """(n,) right without it."""
    after: NDArray[np.bool_]
    """(n,) right with it."""
    groups: NDArray[np.int64]
    """(n,) image of each, numbered from 0."""


def draw_intervention(
    design: Design, random: np.random.Generator, *, changed: float, effect: float
) -> Intervened:
    """Draw which answers an intervention makes right or wrong; one image's hang together.

    Args:
        design: the counts; the items are drawn from all of the study's.
        random: the source of randomness.
        changed: share of the answers that become right or wrong.
        effect: on accuracy, percentage points, within ± 100 · `changed`.
    """
    chosen = random.permutation(sum(design.counts))[: design.n_intervened]
    groups = np.unique(draw_groups(design, random)[chosen], return_inverse=True)[1]
    net = effect / 100
    place = norm.cdf(_with_shared(random, groups, SHARED_ANSWERS))
    lost, won = place < (changed - net) / 2, place > 1 - (changed + net) / 2
    # Whether an answer that does not change is right has no influence on what is estimated.
    return Intervened(~won, ~lost, groups.astype(np.int64))


def _with_shared(
    random: np.random.Generator, groups: NDArray[np.int64], share: float
) -> NDArray[np.float64]:
    """(n,) standard normal values, a share of whose variance items of one image have in common."""
    of_images = random.normal(size=int(groups.max()) + 1)[groups]
    return math.sqrt(share) * of_images + math.sqrt(1 - share) * random.normal(size=groups.size)


def correlation_of_answers(wrong: float) -> float:
    """Correlation of the correctness of two answers on one image.

    That of the signs of two normal values whose correlation is `SHARED_ANSWERS`, by Plackett's
    integral of the bivariate normal density over the correlation.
    """
    at = float(norm.ppf(wrong))
    steps = (np.arange(200) + 0.5) / 200 * SHARED_ANSWERS
    density = np.exp(-(at**2) / (1 + steps)) / (2 * math.pi * np.sqrt(1 - steps**2))
    return float(density.mean() * SHARED_ANSWERS / (wrong * (1 - wrong)))

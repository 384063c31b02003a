"""Samples of the trained models, against separate runs and against their distribution."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from vrp.config.consistency import ConsistencyConfig
from vrp.data.scenes.draw import Purpose, draw_scene, scene_rng, scene_seed
from vrp.data.scenes.questions import counting_questions, existence_question, open_questions
from vrp.data.scoring import normalise_answer
from vrp.signals.exact_consistency import expected_self_consistency, largest_count_distribution
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.batching import VlmInput
from vrp.vlm.loading import load_vlm
from vrp.vlm.nucleus_sampling import gumbel_noise, noise_key
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint
from vrp.zoo.evaluate import load_model
from vrp.zoo.processors import study_prompt

pytestmark = pytest.mark.slow

K = 10
# Enough to notice a model that is sharper by a power of 1.6.
N_ITEMS = 600
NOTICED = 1.6
RULE = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 6, "seed": 0}
LEVEL = 0.001


def questions(name: str, n_items: int) -> list[VlmInput]:
    """Questions of three tasks about unseen scenes; those of one scene follow one another."""
    asked: list[VlmInput] = []
    index = 0
    while len(asked) < n_items:
        scene = draw_scene(scene_seed(name, index))
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        present = scene.objects[0].category
        texts = [("existence", existence_question(present))]
        texts += [("counting", question.text) for question in counting_questions(scene, rng)[:2]]
        texts += [("open", question.text) for question in open_questions(scene, rng)[:2]]
        asked += [
            VlmInput(f"{task}-{index}-{n}", scene.image, text, image_key=str(index))
            for n, (task, text) in enumerate(texts)
        ]
        index += 1
    return asked[:n_items]


def task_of(item: VlmInput) -> str:
    return item.item_id.partition("-")[0]


@pytest.fixture(scope="module", params=ZOO_FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def vlm(family):
    return load_vlm(zoo_checkpoint(family), family=family, device="cpu")


class NoiseDecides(LogitsProcessor):
    """Leaves one token: the one that wins with the sample's noise added to the warped scores."""

    def __init__(self, item_id: str, sample: int, prompt_length: int) -> None:
        self.key = (RULE["seed"], item_id, sample)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        key = noise_key(*self.key, input_ids.shape[1] - self.prompt_length)
        noise = gumbel_noise([key], np.arange(scores.shape[1]))[0]
        picked = int((scores[0].double().numpy() + noise).argmax())
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([picked]), 0.0)


@torch.no_grad()
def separate_runs(model, processor, family: str, item: VlmInput) -> list[list[int]]:
    """K runs of transformers' own `generate` for one item, each with a prefill of its own."""
    inputs = processor(
        images=[[item.image]], text=[study_prompt(family, item.question)], return_tensors="pt"
    )
    inputs.pop("labels", None)
    length = inputs["input_ids"].shape[1]
    found = []
    for sample in range(K):
        warpers = LogitsProcessorList([
            TemperatureLogitsWarper(RULE["temperature"]),
            TopPLogitsWarper(RULE["top_p"]),
            NoiseDecides(item.item_id, sample, length),
        ])  # fmt: skip
        made = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=RULE["max_new_tokens"],
            logits_processor=warpers,
        )
        found.append(made[0, length:].tolist())
    return found


def test_samples_are_those_of_separate_runs(vlm, family):
    asked = questions("separate-runs", 12)
    _, model, processor = load_model(family, zoo_checkpoint(family))
    several = 0
    for item, shared in zip(asked, sample_answers(vlm, asked, k=K, **RULE), strict=True):
        for ours, theirs in zip(
            shared.token_ids, separate_runs(model, processor, family, item), strict=True
        ):
            ends = [place for place, token in enumerate(theirs) if token in vlm.eos_token_ids]
            assert list(ours) == (theirs[: ends[0]] if ends else theirs)
        several += len(set(shared.token_ids)) > 1
    assert several >= 3, "the samples of most items agree: nothing was compared"


class Drawn(NamedTuple):
    """One item's samples and distribution, both over normalised answers."""

    largest_count: int
    probabilities: np.ndarray
    unresolved: float


def drawn(vlm, asked: list[VlmInput], floor: float) -> list[Drawn]:
    found = []
    for start in range(0, len(asked), 40):
        batch = asked[start : start + 40]
        for item, answer in zip(
            batch, sample_answers(vlm, batch, k=K, floor=floor, **RULE), strict=True
        ):
            sampled = Counter(normalise_answer(task_of(item), text) for text in answer.answers)
            probability_of: Counter[str] = Counter()
            texts, probabilities, unresolved = answer.distribution
            for text, probability in zip(texts, probabilities, strict=True):
                probability_of[normalise_answer(task_of(item), text)] += probability
            known = np.array(list(probability_of.values()))
            found.append(Drawn(max(sampled.values()), known, unresolved))
    return found


@pytest.fixture(scope="module")
def followed_far(vlm, family):
    """Questions with distributions that leave out next to nothing."""
    return drawn(vlm, questions("sampled-against-exact", N_ITEMS), floor=1e-6)


def chi_square(answers: list[Drawn], sharpness: float) -> tuple[float, int]:
    """Σ over items of how often the commonest of ten answers came, against what is expected of
    their distribution raised to a power; returns the statistic and its degrees of freedom."""
    observed, expected = np.zeros(K), np.zeros(K)
    covariance = np.zeros((K, K))
    for answer in answers:
        assert answer.unresolved < 1e-3
        raised = answer.probabilities**sharpness
        exact = largest_count_distribution(raised / raised.sum(), K)
        observed[answer.largest_count - 1] += 1
        expected += exact
        covariance += np.diag(exact) - np.outer(exact, exact)
    assert observed.sum() == expected.sum().round() == len(answers)
    # The first common cell is left out: the cells' counts sum to the number of items.
    cells = np.flatnonzero(expected >= 5)[1:]
    gap = (observed - expected)[cells]
    return float(gap @ np.linalg.solve(covariance[np.ix_(cells, cells)], gap)), len(cells)


def test_sampled_consistency_follows_the_exact_distribution(followed_far):
    """At the 0.1% level, and with the power to notice a model that is a little sharper."""
    statistic, freedom = chi_square(followed_far, 1.0)
    print(f"chi-square {statistic:.1f} on {freedom} degrees of freedom")
    assert freedom >= 4
    assert statistic < chi2.ppf(1 - LEVEL, freedom)
    assert chi_square(followed_far, NOTICED)[0] > chi2.ppf(1 - LEVEL, freedom)


def test_the_interval_at_the_default_floor_holds_the_mean(vlm):
    """What the study stores: the mean sampled S_SC lies in the mean interval, but for noise."""
    floor = ConsistencyConfig().floor
    answers = drawn(vlm, questions("default-floor", 300), floor=floor)
    sampled = np.array([answer.largest_count / K for answer in answers])
    bounds = np.array([
        expected_self_consistency(answer.probabilities, answer.unresolved, K)
        for answer in answers
    ])  # fmt: skip
    low, high = bounds.T
    assert (low <= high + 1e-12).all()
    assert np.mean(high - low) < 0.02, "the floor leaves too much open to say anything"
    noise = chi2.ppf(1 - LEVEL, 1) ** 0.5 / len(answers) ** 0.5
    assert np.mean(sampled - low) > -noise * np.std(sampled - low)
    assert np.mean(sampled - high) < noise * np.std(sampled - high)

"""A monitor fitted to the small study, and the model that it is for."""

from typing import Any, NamedTuple

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

import vrp
from vrp.monitor.fitting import FitOptions
from vrp.zoo import zoo_checkpoint


class Loaded(NamedTuple):
    """As transformers loads them."""

    model: Any
    processor: Any


def load() -> Loaded:
    folder = zoo_checkpoint("llava")
    return Loaded(
        AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    )


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """LLaVA and its processor; not to be changed."""
    return load()


@pytest.fixture
def fresh() -> Loaded:
    """LLaVA and its processor, for one test."""
    return load()


@pytest.fixture(scope="session")
def study(small_results):
    return vrp.Study(small_results)


@pytest.fixture(scope="session")
def monitor(small_results):
    return vrp.ReliabilityMonitor.fit(
        small_results, "llava", FitOptions(predictor="token_confidence", alphas=(0.1, 0.2, 0.4))
    )


@pytest.fixture(scope="session")
def fused(small_results):
    return vrp.ReliabilityMonitor.fit(
        small_results, "llava", FitOptions(predictor="fusion", alphas=(0.4,), fit_share=0.5)
    )


@pytest.fixture(scope="session")
def asked(study):
    """Some of the study's items, as `Study.item` gives them."""
    return [study.item(item_id) for item_id in study.items["item_id"].gather_every(20)]

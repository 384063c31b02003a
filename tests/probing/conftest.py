"""A small study with planted truth: two tasks of different difficulty, several items an image."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from vrp.probing.folds import ProbeItems


class Planted(NamedTuple):
    items: ProbeItems
    evidence: NDArray[np.float64]  # (n,) log-odds of being right, within task
    random: np.random.Generator


@pytest.fixture
def planted() -> Callable[..., Planted]:
    def make(n: int = 600, *, strength: float = 1.5, seed: int = 0) -> Planted:
        random = np.random.default_rng(seed)
        group = np.array([f"image{g:04d}" for g in random.integers(0, n // 3, n)])
        task = np.where(np.arange(n) % 3 == 0, "counting", "existence")
        evidence = strength * random.normal(size=n)
        base = np.where(task == "counting", -0.5, 1.0)
        correct = random.random(n) < expit(base + evidence)
        item_id = np.array([f"item{i:05d}" for i in random.permutation(n)])
        return Planted(ProbeItems.of(item_id, correct, group, task), evidence, random)

    return make

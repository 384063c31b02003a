"""What tells the form of a question, and nothing of its answer, tells nothing in any table."""

from types import SimpleNamespace

import numpy as np
import pytest

from vrp.config.margins import EquivalenceMargins
from vrp.stages import metrics, probes

N = 400


@pytest.fixture(scope="module")
def items():
    """Yes/no questions are answered right far more often than the others, on 200 images."""
    random = np.random.default_rng(5)
    forms = np.array(["yes/no", "other"] * (N // 2))
    correct = random.random(N) < np.where(forms == "yes/no", 0.85, 0.25)
    groups = np.repeat(np.arange(N // 2), 2)
    strata = np.char.add("spatial: ", forms)
    return SimpleNamespace(
        correct=correct, groups=groups, n_images=N // 2, strata=strata,
        is_yes=(forms == "yes/no").astype(float), margins=EquivalenceMargins(),
    )  # fmt: skip


def test_a_head_that_knows_the_form_does_not_correlate(items):
    noise = np.random.default_rng(6).normal(size=(N, 1, 2))
    entropy = 5 * items.is_yes[:, None, None] + noise
    entropy[:, 0, 1] += items.correct  # this one knows the answer, too
    by_head = {"head_entropy": entropy, "head_clusters": None, "head_contribution": None}
    found = metrics._head_table(by_head, items)["r_entropy"]
    assert np.corrcoef(entropy[:, 0, 0], items.correct)[0, 1] > 0.5
    assert abs(found[0]) < 0.15
    assert found[1] == pytest.approx(0.4, abs=0.15)


def test_a_probe_of_another_split_that_knows_the_form_transfers_nothing(items, monkeypatch):
    random = np.random.default_rng(7)
    splits = np.array(["toy/pope", "toy/spatial"] * (N // 2))
    splits[:: N // 40] = "toy/spatial"
    scores = items.is_yes + 0.01 * random.random(N)
    monkeypatch.setattr(probes, "_transfer_scores", lambda inputs, sources, *rest: sources)
    folds = np.zeros(N, dtype=np.int64)
    monkeypatch.setattr(probes, "_everywhere", lambda *given: (scores, folds))
    ids = np.array([f"{split}/{i}" for i, split in enumerate(splits)])
    rows = probes._transfer_rows(
        SimpleNamespace(items=SimpleNamespace(item_id=ids)),
        SimpleNamespace(learning_from=lambda chosen: None),
        None, items, SimpleNamespace(evaluated=np.arange(N), used=np.arange(N)), None,
    )  # fmt: skip
    found = {(row["predictor"], row["scope"]): row for row in rows}
    row = found["linear_from_toy/pope", "toy/spatial"]
    assert row["low"] < 0.5 < row["high"]
    assert abs(row["value"] - 0.5) < 0.1

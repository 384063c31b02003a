"""Recipes of attention, each against its definition, written out."""

import numpy as np
import pytest

from vrp.signals.recipes import (
    ALL_HEADS,
    COMPONENTS,
    DBSCAN,
    EACH_LAYER,
    ENTROPY,
    KEPT,
    LAYERS,
    MAP,
    REMOVED,
    TOGETHER,
    TOP_HEADS,
    Recipe,
    head_recipes,
    layer_choices,
    map_recipes,
)  # fmt: skip
from vrp.signals.registry import SignalInputs
from vrp.signals.structural import cluster_count_components, cluster_count_dbscan

N, L, H, W = 5, 8, 4, 6
S = H * W
SINK = 9


@pytest.fixture
def inputs():
    random = np.random.default_rng(1)
    return SignalInputs(
        n_items=N,
        columns={
            "attention.maps": list(random.dirichlet(np.full(S, 0.4), (N, L))),
            "attention.image_mass": random.uniform(0.1, 0.9, (N, L)),
            "attention.grid_h": np.full(N, H),
            "attention.grid_w": np.full(N, W),
            "attention.sinks": [[layer * S + SINK for layer in range(L)]] * N,
        },
    )


def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def test_every_combination_is_there_once(inputs):
    found = map_recipes(inputs, with_sinks=True)
    # Six choices of layers, each normalised in two ways, but for the last layer alone.
    assert len(found) == (5 * 2 + 1) * 2 * 3
    assert len(map_recipes(inputs, with_sinks=False)) == (5 * 2 + 1) * 3
    assert all(values.shape == (N,) and np.isfinite(values).all() for values in found.values())


def test_each_layer_counts_the_same_or_by_its_mass(inputs):
    found = map_recipes(inputs, with_sinks=True)
    for i, (maps, mass) in enumerate(
        zip(inputs["attention.maps"], inputs["attention.image_mass"], strict=True)
    ):
        even = maps[4:].mean(axis=0)
        weighted = (maps[4:] * mass[4:, None]).sum(axis=0) / mass[4:].sum()
        for average, normalisation in ((even, EACH_LAYER), (weighted, TOGETHER)):
            recipe = Recipe(MAP, "second half", KEPT, normalisation, ENTROPY)
            assert found[recipe][i] == pytest.approx(entropy(average) / np.log(S), abs=1e-6)
        grid = weighted.reshape(H, W)
        for measure, count in (
            (DBSCAN, cluster_count_dbscan), (COMPONENTS, cluster_count_components)
        ):  # fmt: skip
            recipe = Recipe(MAP, "second half", KEPT, TOGETHER, measure)
            assert found[recipe][i] == count(grid)


def test_a_sink_is_taken_out_of_every_layer_before_they_are_averaged(inputs):
    found = map_recipes(inputs, with_sinks=True)
    for i, (maps, mass) in enumerate(
        zip(inputs["attention.maps"], inputs["attention.image_mass"], strict=True)
    ):
        left = np.delete(maps, SINK, axis=1)  # S − 1 tokens
        even = (left / left.sum(axis=1, keepdims=True)).mean(axis=0)
        raw = (left * mass[:, None]).sum(axis=0)  # what the model attends to, sinks apart
        for average, normalisation in ((even, EACH_LAYER), (raw / raw.sum(), TOGETHER)):
            recipe = Recipe(MAP, "all", REMOVED, normalisation, ENTROPY)
            assert found[recipe][i] == pytest.approx(entropy(average) / np.log(S - 1), abs=1e-6)


def test_choices_that_are_the_same_in_a_small_model_count_once():
    assert list(layer_choices(8)) == list(LAYERS)
    assert layer_choices(8)["middle half"] == slice(2, 6)
    assert layer_choices(4) == {
        "all": slice(0, 4), "first half": slice(0, 2), "second half": slice(2, 4),
        "middle half": slice(1, 3), "last quarter": slice(3, 4),
    }  # fmt: skip
    assert layer_choices(1) == {"all": slice(0, 1)}


def test_heads_are_measured_one_by_one():
    random = np.random.default_rng(2)
    h_s = random.uniform(1, 3, (N, L, 3)).astype(np.float32)
    c_k = random.integers(0, 5, (N, L, 3)).astype(np.float32)
    order = random.permutation(L * 3)
    found = head_recipes(h_s, c_k, np.full(N, S), order)
    assert len(found) == 2 * (6 + 1)
    last_quarter = found[Recipe(ALL_HEADS, "last quarter", KEPT, EACH_LAYER, ENTROPY)]
    assert last_quarter == pytest.approx(h_s[:, 6:].mean(axis=(1, 2)) / np.log(S))
    top = found[Recipe(TOP_HEADS, "all", KEPT, EACH_LAYER, DBSCAN)]
    assert top == pytest.approx(c_k.reshape(N, -1)[:, order[:10]].mean(axis=1))
    assert len(head_recipes(h_s, c_k, np.full(N, S), None)) == 2 * 6

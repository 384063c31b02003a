import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from vrp.errors import InputError
from vrp.signals import registry, structural
from vrp.signals.registry import (
    SIGNALS,
    Signal,
    SignalInputs,
    SinkFeatures,
    compute_signals,
    register_signal,
)

N_LAYERS = 8
GRIDS = [(4, 5), (3, 6), (4, 5), (6, 3), (3, 6), (4, 5)]


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    n_items = len(GRIDS)
    maps = [structural.renormalise(rng.random((N_LAYERS, h * w)) ** 3).map for h, w in GRIDS]
    return SignalInputs(
        n_items=n_items,
        columns={
            "attention.grid_h": np.array([h for h, _ in GRIDS]),
            "attention.grid_w": np.array([w for _, w in GRIDS]),
            "attention.maps": [attention.astype(np.float32) for attention in maps],
            "attention.image_mass": rng.random((n_items, N_LAYERS)),
            # One token's area; the third item has no box.
            "boxes.boxes": [np.array([[0.0, 0, 1, 1]] * (i != 2)) for i in range(n_items)],
            "boxes.image_height": np.array([h for h, _ in GRIDS]),
            "boxes.image_width": np.array([w for _, w in GRIDS]),
            "attention.sinks": [[0, 25], [], [3], [1, 2], [], [7]],
            "lens.residual_update": rng.random((n_items, N_LAYERS)),
            "lens.truth_margin": rng.standard_normal((n_items, N_LAYERS)),
            "lens.decision_margin": rng.random((n_items, N_LAYERS)),
            "lens.attention_contribution": rng.standard_normal((n_items, N_LAYERS)),
            "lens.mlp_contribution": rng.standard_normal((n_items, N_LAYERS)),
            "answers.token_logprobs": [[-0.5], [-1.0, -2.0], [], [-0.1], [-0.2], [-0.3]],
            "answers.first_token_entropy": rng.random(n_items),
            "answers.first_token_logprobs": np.log(rng.dirichlet(np.ones(5), n_items)[:, :4]),
            "p_true.p_true": rng.random(n_items),
            "blind_scores.token_logprobs": [[-1.5], [-1.0, -4.0], [], [-0.1], [-0.7], [-0.3]],
            "blind_scores.first_token_logprobs": np.log(rng.dirichlet(np.ones(5), n_items)[:, :4]),
            "answers.decision_margin": np.arange(n_items) / 4,
            "consistency.self_consistency": rng.random(n_items),
            "consistency.normalised": [["a", "b"], ["a", "a"], [], ["c", "b"], ["a"], ["b"]],
            "consistency.exact_probabilities": [[1.0], [0.5, 0.5], None, [0.8], [0.9, 0.1], [1.0]],
            "consistency.unresolved": np.array([0.0, 0.0, np.nan, 0.2, 0.0, 0.0]),
            "consistency.expected_consistency_low": rng.random(n_items),
            "consistency.expected_consistency_high": rng.random(n_items),
        },
    )


def changed(inputs, **columns):
    """The same inputs with other columns, such as `lens__truth_margin`."""
    given = {name.replace("__", "."): values for name, values in columns.items()}
    return dataclasses.replace(inputs, columns={**inputs.columns, **given})


def test_every_signal_gets_a_column_in_order(inputs):
    columns = compute_signals(inputs)
    assert list(columns) == list(SIGNALS)
    for name, column in columns.items():
        assert column.shape == (inputs.n_items,)
        assert column.dtype == np.float64
        # The third item has no answer tokens and no distribution.
        assert np.isfinite(np.delete(column, 2)).all(), name


def test_structural_columns_equal_the_functions_item_by_item(inputs):
    columns = compute_signals(inputs)
    for index, (grid_h, grid_w) in enumerate(GRIDS):
        features = structural.map_features(
            inputs["attention.maps"][index][None],
            inputs["attention.image_mass"][index][None],
            grid_h=grid_h,
            grid_w=grid_w,
        )
        for name, value in features._asdict().items():
            np.testing.assert_allclose(columns[name][index], value[0], rtol=1e-12)


def test_the_other_columns_are_what_their_description_says(inputs):
    columns = compute_signals(inputs)
    expected = {
        "residual_update_late": inputs["lens.residual_update"][:, 6:].mean(axis=1),
        "truth_margin_last": inputs["lens.truth_margin"][:, 7],
        "truth_margin_peak": inputs["lens.truth_margin"].max(axis=1),
        "decision_margin": inputs["lens.decision_margin"][:, 7],
        "decision_margin_peak": inputs["lens.decision_margin"].max(axis=1),
        "margin_growth": (
            inputs["lens.attention_contribution"] + inputs["lens.mlp_contribution"]
        ).sum(axis=1),
        "mlp_contribution_sum": inputs["lens.mlp_contribution"].sum(axis=1),
        "object_attention": [
            np.nan if i == 2 else attention[:, 0].mean(dtype=np.float64) - 1 / attention.shape[1]
            for i, attention in enumerate(inputs["attention.maps"])
        ],
        "self_consistency": inputs["consistency.self_consistency"],
        "expected_self_consistency": np.mean(
            [inputs[f"consistency.expected_consistency_{end}"] for end in ("low", "high")], axis=0
        ),
        "logit_entropy": inputs["answers.first_token_entropy"],
        "token_confidence": [-0.5, -1.5, np.nan, -0.1, -0.2, -0.3],
        "sequence_log_probability": [-0.5, -3.0, np.nan, -0.1, -0.2, -0.3],
        "least_token_log_probability": [-0.5, -2.0, np.nan, -0.1, -0.2, -0.3],
        "probability_margin": np.exp([-0.5, -1.0, np.nan, -0.1, -0.2, -0.3])
        * (1 - np.exp(-np.arange(6) / 4)),
        "p_true": inputs["p_true.p_true"],
        "image_gain": [1.0, 2.0, np.nan, 0.0, 0.5, 0.0],
        "image_divergence": [
            jensenshannon([*p, 1 - p.sum()], [*q, 1 - q.sum()])
            for p, q in zip(
                np.exp(inputs["answers.first_token_logprobs"]),
                np.exp(inputs["blind_scores.first_token_logprobs"]),
                strict=True,
            )
        ],
        "semantic_entropy": [np.log(2), 0.0, np.nan, np.log(2), 0.0, 0.0],
        "distinct_answers": [2, 1, np.nan, 2, 1, 1],
        "exact_semantic_entropy": [
            0.0,
            np.log(2),
            np.nan,
            *(entropy(p) for p in ([0.8, 0.2], [0.9, 0.1], [1.0])),
        ],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, atol=1e-12)
    assert set(expected) | {*structural.FEATURE_NAMES, *SinkFeatures._fields} == set(columns)


def test_sinks_are_left_out_of_the_map(inputs):
    columns = compute_signals(inputs)
    for index, maps in enumerate(inputs["attention.maps"]):
        left = np.array(maps, dtype=np.float64)
        left.reshape(-1)[inputs["attention.sinks"][index]] = 0
        on_sinks = 1 - left.sum(axis=1)
        features = structural.map_features(
            (left / left.sum(axis=1, keepdims=True))[None], np.ones((1, N_LAYERS)),
            grid_h=GRIDS[index][0], grid_w=GRIDS[index][1],
        )  # fmt: skip
        for name in ("spatial_entropy", "cluster_count_dbscan", "cluster_count_components"):
            found = columns[f"{name}_without_sinks"][index]
            assert found == pytest.approx(getattr(features, name)[0], abs=1e-9)
        assert columns["sink_mass"][index] == pytest.approx(on_sinks.mean(), abs=1e-6)


def test_places_that_are_sinks_in_most_items_are_left_out_too(inputs):
    places = np.zeros((N_LAYERS, 20), dtype=bool)
    places[:, 4] = True
    heavy = dataclasses.replace(inputs, heavy_places={(4, 5): places})
    before, after = compute_signals(inputs)["sink_mass"], compute_signals(heavy)["sink_mass"]
    of_grid = np.array([grid == (4, 5) for grid in GRIDS])
    assert (after[of_grid] > before[of_grid]).all()
    np.testing.assert_array_equal(after[~of_grid], before[~of_grid])


def test_columns_do_not_depend_on_the_stack_size(inputs, monkeypatch):
    whole = compute_signals(inputs)
    monkeypatch.setattr(registry, "_ITEMS_A_STACK", 1)
    single = compute_signals(dataclasses.replace(inputs))
    for name, column in whole.items():
        np.testing.assert_allclose(single[name], column, rtol=1e-12)


def test_configured_layers_reach_the_map(inputs):
    some = compute_signals(dataclasses.replace(inputs, map_layers=(2, 3)))
    expected = structural.spatial_entropy(inputs["attention.maps"][1][2:4].mean(axis=0))
    np.testing.assert_allclose(some["spatial_entropy"][1], expected, rtol=1e-6)


def test_what_was_not_captured_gives_no_number(inputs):
    columns = compute_signals(changed(inputs, consistency__self_consistency=None))
    assert np.isnan(columns["self_consistency"]).all()
    assert np.isfinite(columns["logit_entropy"]).all()
    with pytest.raises(ValueError, match="nothing was not captured"):
        inputs["lens.nothing"]


def test_no_entropy_comes_from_attention_that_is_not_finite_or_empty(inputs):
    maps = list(inputs["attention.maps"])
    maps[2] = np.full_like(maps[2], np.nan)
    maps[3] = np.zeros_like(maps[3])
    columns = compute_signals(changed(inputs, attention__maps=maps))
    whole = compute_signals(inputs)
    structural_names = [name for name, signal in SIGNALS.items() if signal.kind == "structural"]
    # The image mass of rows that came through stays what it was.
    for name in set(structural_names) - {"image_mass"}:
        assert np.isnan(columns[name][2:4]).all(), name
        np.testing.assert_array_equal(columns[name][[0, 1, 4, 5]], whole[name][[0, 1, 4, 5]])


def test_infinite_values_become_missing(inputs):
    margins = inputs["lens.decision_margin"].copy()
    margins[0, -1] = np.inf
    columns = compute_signals(changed(inputs, lens__decision_margin=margins))
    assert np.isnan(columns["decision_margin"][0])
    assert np.isfinite(columns["decision_margin"][1:]).all()


def test_maps_that_do_not_fit_their_grid_are_refused(inputs):
    wrong = changed(inputs, attention__grid_w=inputs["attention.grid_w"] + 1)
    with pytest.raises(ValueError, match="item 0"):
        compute_signals(wrong)


def test_inputs_of_unequal_length_are_refused(inputs):
    with pytest.raises(ValueError, match="self_consistency has 2 items"):
        changed(inputs, consistency__self_consistency=np.ones(2))


def test_an_empty_batch_has_empty_columns(inputs):
    empty = SignalInputs(
        n_items=0, columns={name: values[:0] for name, values in inputs.columns.items()}
    )
    assert {column.shape for column in compute_signals(empty).values()} == {(0,)}


def test_entries_are_consistent(inputs):
    assert all(name == signal.name for name, signal in SIGNALS.items())
    assert {need for signal in SIGNALS.values() for need in signal.needs} == set(inputs.columns)
    assert set(structural.FEATURE_NAMES) <= set(SIGNALS)
    assert SIGNALS["margin_growth"].tables == {"lens"}


def test_only_what_needs_no_annotation_is_deployable():
    for signal in SIGNALS.values():
        annotated = {"lens.truth_margin", "boxes.boxes"} & set(signal.needs)
        assert signal.deployable == (not annotated), signal.name


def test_each_signal_reads_no_more_than_it_declares(inputs):
    for signal in SIGNALS.values():
        given = {name: inputs[name] for name in signal.needs}
        column = signal.compute(SignalInputs(n_items=inputs.n_items, columns=given))
        assert len(column) == inputs.n_items


def first_margin(**more):
    """A signal as an extension would give it."""
    return Signal(
        **{
            "name": "decision_margin_first",
            "label": "decision margin, first layer",
            "kind": "mechanistic",
            "reliable_when": "high",
            "deployable": True,
            "unit": "logit",
            "description": "decision margin at layer 0",
            "needs": ("lens.decision_margin",),
            "compute": lambda batch: batch["lens.decision_margin"][:, 0],
            **more,
        }
    )


def test_a_registered_signal_is_the_last_column(inputs, monkeypatch):
    monkeypatch.setattr(registry, "SIGNALS", dict(SIGNALS))
    register_signal(first_margin())
    columns = compute_signals(inputs)
    assert list(columns)[-1] == "decision_margin_first"
    margins = inputs["lens.decision_margin"]
    np.testing.assert_array_equal(columns["decision_margin_first"], margins[:, 0])
    with pytest.raises(InputError, match="decision_margin_first' exists already"):
        register_signal(first_margin())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "correct"}, "exists already"),
        ({"name": "two words"}, "letters, digits and _"),
        ({"needs": ("decision_margin",)}, "name a column such as lens.truth_margin"),
        ({"needs": ("lens.decision_margin.first",)}, "name a column such as lens.truth_margin"),
    ],
)
def test_a_signal_that_cannot_be_registered_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        register_signal(first_margin(**wrong))


def test_a_signal_must_give_one_value_an_item(inputs, monkeypatch):
    whole = first_margin(compute=lambda batch: batch["lens.decision_margin"])
    monkeypatch.setitem(SIGNALS, whole.name, whole)
    with pytest.raises(ValueError, match="'decision_margin_first' gave \\(6, 8\\) for 6 items"):
        compute_signals(inputs)


@pytest.mark.slow
def test_signals_load_without_torch():
    check = (
        "import sys, vrp.signals.registry, vrp.signals.heads; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

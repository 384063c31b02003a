import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from vrp.signals import registry, structural
from vrp.signals.registry import SIGNALS, Signal, SignalInputs, attention_problems, compute_signals

N_LAYERS = 8
GRIDS = [(4, 5), (3, 6), (4, 5), (6, 3), (3, 6), (4, 5)]


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    n_items = len(GRIDS)
    maps = [structural.renormalise(rng.random((N_LAYERS, h * w)) ** 3).map for h, w in GRIDS]
    return SignalInputs(
        n_items=n_items,
        grid_h=np.array([h for h, _ in GRIDS]),
        grid_w=np.array([w for _, w in GRIDS]),
        attention_maps=[attention.astype(np.float32) for attention in maps],
        image_mass=rng.random((n_items, N_LAYERS)),
        residual_update=rng.random((n_items, N_LAYERS)),
        truth_margin=rng.standard_normal((n_items, N_LAYERS)),
        decision_margin=rng.random((n_items, N_LAYERS)),
        attention_contribution=rng.standard_normal((n_items, N_LAYERS)),
        mlp_contribution=rng.standard_normal((n_items, N_LAYERS)),
        token_logprobs=[[-0.5], [-1.0, -2.0], [], [-0.1], [-0.2], [-0.3]],
        first_token_entropy=rng.random(n_items),
        self_consistency=rng.random(n_items),
        expected_self_consistency=rng.random(n_items),
    )


def test_every_signal_gets_a_column_in_order(inputs):
    columns = compute_signals(inputs)
    assert list(columns) == [signal.name for signal in SIGNALS]
    for name, column in columns.items():
        assert column.shape == (inputs.n_items,)
        assert column.dtype == np.float64
        assert np.isfinite(column).all() or name == "token_confidence"


def test_structural_columns_equal_the_functions_item_by_item(inputs):
    columns = compute_signals(inputs)
    for index, (grid_h, grid_w) in enumerate(GRIDS):
        features = structural.map_features(
            inputs.attention_maps[index][None],
            inputs.image_mass[index][None],
            grid_h=grid_h,
            grid_w=grid_w,
        )
        for name, value in features._asdict().items():
            np.testing.assert_allclose(columns[name][index], value[0], rtol=1e-12)


def test_the_other_columns_are_what_their_description_says(inputs):
    columns = compute_signals(inputs)
    expected = {
        "residual_update_late": inputs.residual_update[:, 6:].mean(axis=1),
        "truth_margin_last": inputs.truth_margin[:, 7],
        "truth_margin_peak": inputs.truth_margin.max(axis=1),
        "decision_margin": inputs.decision_margin[:, 7],
        "decision_margin_peak": inputs.decision_margin.max(axis=1),
        "margin_growth": (inputs.attention_contribution + inputs.mlp_contribution).sum(axis=1),
        "mlp_contribution_sum": inputs.mlp_contribution.sum(axis=1),
        "self_consistency": inputs.self_consistency,
        "expected_self_consistency": inputs.expected_self_consistency,
        "logit_entropy": inputs.first_token_entropy,
        "token_confidence": [-0.5, -1.5, np.nan, -0.1, -0.2, -0.3],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values)
    assert set(expected) | set(structural.FEATURE_NAMES) == set(columns)


def test_columns_do_not_depend_on_the_stack_size(inputs, monkeypatch):
    whole = compute_signals(inputs)
    monkeypatch.setattr(registry, "_ITEMS_A_STACK", 1)
    single = compute_signals(dataclasses.replace(inputs))
    for name, column in whole.items():
        np.testing.assert_allclose(single[name], column, rtol=1e-12)


def test_configured_layers_reach_the_map(inputs):
    some = compute_signals(dataclasses.replace(inputs, map_layers=(2, 3)))
    expected = structural.spatial_entropy(inputs.attention_maps[1][2:4].mean(axis=0))
    np.testing.assert_allclose(some["spatial_entropy"][1], expected, rtol=1e-6)


def test_a_missing_input_is_refused_unless_allowed(inputs):
    without = dataclasses.replace(inputs, self_consistency=None)
    with pytest.raises(ValueError, match="self_consistency needs self_consistency"):
        compute_signals(without)
    columns = compute_signals(without, allow_missing=["self_consistency"])
    assert np.isnan(columns["self_consistency"]).all()
    assert np.isfinite(columns["logit_entropy"]).all()
    with pytest.raises(ValueError, match="no such inputs"):
        compute_signals(inputs, allow_missing=["consistency"])


def test_no_entropy_comes_from_attention_that_was_not_captured(inputs):
    maps = list(inputs.attention_maps)
    maps[1] = None
    maps[2] = np.full_like(maps[2], np.nan)
    maps[3] = np.zeros_like(maps[3])
    broken = dataclasses.replace(inputs, attention_maps=maps)
    columns = compute_signals(broken)
    whole = compute_signals(inputs)
    structural_names = [signal.name for signal in SIGNALS if signal.family == "structural"]
    # The image mass of rows that came through stays what it was.
    for name in set(structural_names) - {"image_mass"}:
        assert np.isnan(columns[name][1:4]).all(), name
        np.testing.assert_array_equal(columns[name][[0, 4, 5]], whole[name][[0, 4, 5]])
    assert np.isnan(columns["image_mass"][1])
    assert attention_problems(broken) == ["", "not_captured", "non_finite", "no_mass", "", ""]
    nothing = dataclasses.replace(inputs, attention_maps=None)
    assert attention_problems(nothing) == ["not_captured"] * 6


def test_infinite_values_become_missing(inputs):
    margins = inputs.decision_margin.copy()
    margins[0, -1] = np.inf
    columns = compute_signals(dataclasses.replace(inputs, decision_margin=margins))
    assert np.isnan(columns["decision_margin"][0])
    assert np.isfinite(columns["decision_margin"][1:]).all()


def test_maps_that_do_not_fit_their_grid_are_refused(inputs):
    wrong = dataclasses.replace(inputs, grid_w=inputs.grid_w + 1)
    with pytest.raises(ValueError, match="item 0"):
        compute_signals(wrong)


def test_inputs_of_unequal_length_are_refused(inputs):
    with pytest.raises(ValueError, match="self_consistency has 2 items"):
        dataclasses.replace(inputs, self_consistency=np.ones(2))


def test_an_empty_batch_has_empty_columns(inputs):
    empty = SignalInputs(
        n_items=0,
        **{name: getattr(inputs, name)[:0] for name in registry.INPUT_TABLES},
    )
    assert {column.shape for column in compute_signals(empty).values()} == {(0,)}


def test_entries_are_consistent():
    names = [signal.name for signal in SIGNALS]
    assert len(set(names)) == len(names)
    fields = {field.name for field in dataclasses.fields(SignalInputs)}
    assert set(registry.INPUT_TABLES) == fields - {"n_items", "map_layers"}
    assert {name for signal in SIGNALS for name in signal.needs} == set(registry.INPUT_TABLES)
    assert set(structural.FEATURE_NAMES) <= set(names)


def test_only_what_holds_no_label_is_deployable():
    for signal in SIGNALS:
        assert signal.deployable == ("truth_margin" not in signal.needs), signal.name


def test_each_signal_reads_no_more_than_it_declares(inputs):
    for signal in SIGNALS:
        given = {name: getattr(inputs, name) for name in signal.needs}
        column = signal.compute(SignalInputs(n_items=inputs.n_items, **given))
        assert len(column) == inputs.n_items


def test_a_new_signal_is_one_function_and_one_entry(inputs):
    first = Signal(
        name="decision_margin_first",
        label="decision margin, first layer",
        family="mechanistic",
        reliable_when="high",
        deployable=True,
        unit="logit",
        description="decision margin at layer 0",
        needs=("decision_margin",),
        compute=lambda batch: batch.decision_margin[:, 0],
    )
    columns = compute_signals(inputs, signals=[*SIGNALS, first])
    np.testing.assert_array_equal(columns["decision_margin_first"], inputs.decision_margin[:, 0])


def test_signals_load_without_torch():
    check = (
        "import sys, vrp.signals.registry, vrp.signals.heads; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

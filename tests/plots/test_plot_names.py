from synthetic_study import CONDITIONS

from vrp.estimates.predictors import PREDICTOR_KINDS, predictor_kind, predictor_label
from vrp.interventions.ablation import ABLATION_KINDS, AblationCondition
from vrp.interventions.masking import MASK_KINDS, MaskCondition
from vrp.plots.condition_style import CONDITION_COLOURS, colour_of, in_reading_order
from vrp.plots.figures.auroc_by_signal import _KIND_TITLES
from vrp.plots.style import GREEN, KIND_COLOURS, with_symbols
from vrp.signals.registry import SIGNALS


def test_conditions_are_read_from_chosen_to_contrast_and_small_to_large():
    def ordered(intervention):
        conditions = CONDITIONS.of(intervention).values()
        contrasts = CONDITIONS.contrasts(intervention).values()
        return [shown.name for shown in in_reading_order([*contrasts, *conditions])]

    assert ordered("ablate") == [
        "top_5", "top_5_depth50", "top_5_plus_100", "top_10", "top_10_mean", "random_5",
        "random_10", "random_25pct", "random_50pct", "mlp_bypass", "steer_-3", "steer_3",
        "steer_random_-3", "steer_random_3", "sham", "top_5 - random_5", "top_10 - random_10",
        "steer_-3 - steer_random_-3", "steer_3 - steer_random_3",
    ]  # fmt: skip
    assert ordered("mask")[:2] == ["top_10", "top_30"]
    assert ordered("mask")[10:15] == [
        "bottom_30", "no_image", "other_image", "sham", "top_10 - random_10",
    ]  # fmt: skip


def test_every_kind_has_its_colour():
    for kind in MASK_KINDS:
        assert colour_of(MaskCondition(kind)) == CONDITION_COLOURS[kind]
    for kind in ABLATION_KINDS:
        assert colour_of(AblationCondition(kind)) == CONDITION_COLOURS[kind]
    contrast = CONDITIONS.contrasts("mask")["top_30"]
    assert colour_of(contrast) == CONDITION_COLOURS["contrast"]
    assert colour_of(MaskCondition("an_extensions_own")) == GREEN


def test_predictors_are_of_kinds():
    expected = {
        "fusion": "probes",
        "linear_best": "probes",
        "margin_only": "probes",
        "attention_trees": "supervised_attention",
        "answer_only": "guards",
        "blind_linear_best": "guards",
        "permuted_linear_best_1": "guards",
    }
    assert {name: predictor_kind(name) for name in expected} == expected
    assert all(predictor_kind(signal.name) == signal.kind for signal in SIGNALS.values())
    assert set(_KIND_TITLES) == set(PREDICTOR_KINDS) == set(KIND_COLOURS)


def test_an_unknown_predictor_is_printed_as_it_is_named():
    assert predictor_label("a_new_probe") == "a new probe"


def test_symbols_are_set_with_their_index():
    assert with_symbols("self-consistency S_SC") == r"self-consistency $S_\mathrm{SC}$"
    assert with_symbols("H_s / log S of C_kx") == r"$H_\mathrm{s}$ / log S of C_kx"

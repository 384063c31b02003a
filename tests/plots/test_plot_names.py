import pytest

from vrp.config.ablate import AblateConfig
from vrp.interventions.ablation import ablation_conditions
from vrp.plots.conditions import ablation_label, mask_label, parse_condition, reading_order
from vrp.plots.predictors import FAMILIES, FAMILY_TITLES, family, in_words
from vrp.plots.style import FAMILY_COLOURS
from vrp.signals.registry import SIGNALS


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ({"neurons": "top", "count": 5}, "top 5"),
        ({"neurons": "random", "share": 0.25, "seeds": 3}, "random 25%"),
        ({"neurons": "top", "count": 10, "value": "mean"}, "top 10, set to mean"),
        ({"neurons": "top", "count": 5, "value": "plus_100"}, "top 5, set to +100"),
        ({"neurons": "top", "count": 5, "value": "minus_100"}, "top 5, set to −100"),
        ({"neurons": "top", "count": 5, "layer": 0.5}, "top 5, at 50% depth"),
        ({"neurons": "mlp"}, "whole MLP bypassed"),
        ({"neurons": "mlp", "layer": 0.31}, "whole MLP bypassed, at 31% depth"),
    ],
)
def test_every_ablation_of_the_config_has_words(condition, label):
    name = ablation_conditions(AblateConfig(conditions=[condition]))[0].name
    assert ablation_label(name) == label


def test_masks_have_words():
    assert mask_label("top_30") == "most attended 30%"
    assert mask_label("random_12.5") == "random 12.5%"
    assert mask_label("top_30 - random_30") == "most attended − random"
    assert mask_label("something_new") == "something_new"


def test_conditions_are_read_from_chosen_to_contrast_and_small_to_large():
    names = ["top_5 - random_5", "no_image", "random_50pct", "random_10", "top_10", "top_5"]
    expected = ["top_5", "top_10", "random_10", "random_50pct", "no_image", "top_5 - random_5"]
    assert sorted(names, key=reading_order) == expected
    assert parse_condition("random_50pct").percent


def test_predictors_belong_to_families():
    expected = {
        "fusion": "probes",
        "linear_best": "probes",
        "margin_only": "probes",
        "attention_trees": "supervised_attention",
        "answer_only": "guards",
        "blind_linear_best": "guards",
        "permuted_linear_best_1": "guards",
    }
    assert {name: family(name) for name in expected} == expected
    assert all(family(signal.name) == signal.family for signal in SIGNALS)
    assert set(FAMILY_TITLES) == set(FAMILIES) == set(FAMILY_COLOURS)


def test_an_unknown_predictor_is_printed_as_it_is_named():
    assert in_words("a_new_probe") == "a new probe"

"""Conditions: names in the tables, labels, controls, and what they change."""

import numpy as np
import pytest
from mask_rows import mask_rows

from vrp.config.ablate import AblateConfig
from vrp.config.mask import MaskConfig
from vrp.config.study import StudyConfig, study_from_mapping
from vrp.errors import InputError
from vrp.interventions.ablation import (
    ABLATION_KINDS,
    AblationCondition,
    AblationKind,
    AblationSite,
    RankedNeurons,
    ablation_conditions,
)
from vrp.interventions.conditions import conditions_by_name, register_condition
from vrp.interventions.masking import (
    MASK_KINDS,
    MaskableImage,
    MaskCondition,
    MaskKind,
    mask_conditions,
)


def study(**sections: object) -> StudyConfig:
    models = {"m": {"family": "llava", "checkpoint": "x"}}
    return study_from_mapping({"study": "s", "models": models, **sections})


@pytest.mark.parametrize(
    ("condition", "name", "label", "control"),
    [
        (MaskCondition("top", 0.3), "top_30", "most attended 30% of patches", "random_30"),
        (MaskCondition("random", 0.125, seed=2), "random_12.5", "random 12.5% of patches", None),
        (
            MaskCondition("bottom", 0.3, "embedding"),
            "bottom_30_embedding",
            "least attended 30% of patches, replaced by the mean embedding",
            "random_30_embedding",
        ),
        (
            MaskCondition("top", 0.3, ranking="without_sinks", layers=(16, 31)),
            "top_30_without_sinks_layers16to31",
            "most attended 30% of patches, sinks left out, layers 16 to 31",
            "random_30",
        ),
        (MaskCondition("object"), "object", "the object hidden", "random_object"),
        (MaskCondition("bottom", 0.3), "bottom_30", "least attended 30% of patches", "random_30"),
        (MaskCondition("no_image"), "no_image", "blank image", None),
        (MaskCondition("other_image"), "other_image", "another item’s image", None),
        (AblationCondition("top", 1), "top_1", "top 1 neuron", "random_1"),
        (AblationCondition("top", 5), "top_5", "top 5 neurons", "random_5"),
        (
            AblationCondition("top", 5, value="minus_100", depth=0.25),
            "top_5_minus_100_depth25",
            "top 5 neurons, set to −100, at 25% depth",
            "random_5_minus_100_depth25",
        ),
        (
            AblationCondition("random", share=0.5, value="mean", seed=3),
            "random_50pct_mean",
            "random 50% of neurons, set to mean",
            None,
        ),
        (AblationCondition("mlp"), "mlp_bypass", "whole MLP bypassed", None),
        (
            AblationCondition("mlp", depth=0.31),
            "mlp_bypass_depth31",
            "whole MLP bypassed, at 31% depth",
            None,
        ),
    ],
)
def test_names_labels_and_controls(
    condition: MaskCondition | AblationCondition, name: str, label: str, control: str | None
):
    assert (condition.name, condition.label) == (name, label)
    assert (condition.controls or (None,))[-1] == control


def test_masking_runs_its_rows_in_order_repeats_one_by_one():
    rows = [
        {"kind": "top", "share": 0.3},
        {"kind": "random", "share": 0.3, "seeds": 2},
        {"kind": "other_image"},
        {"kind": "top", "share": 0.5, "mode": "pixels", "items": 20},
        {"kind": "top", "share": 0.3, "ranking": "times_values", "layers": [2, 5]},
        {"kind": "object"},
    ]
    found = mask_conditions(MaskConfig.model_validate({"conditions": rows}))
    assert found == [
        MaskCondition("sham"), MaskCondition("top", 0.3), MaskCondition("random", 0.3),
        MaskCondition("random", 0.3, seed=1), MaskCondition("other_image"),
        MaskCondition("top", 0.5, "pixels", n_items=20),
        MaskCondition("top", 0.3, ranking="times_values", layers=(2, 5)),
        MaskCondition("object"),
    ]  # fmt: skip
    assert [condition.shows for condition in found] == ["own"] * 4 + ["other"] + ["own"] * 3


def test_an_ablation_s_row_is_one_condition_for_every_layer_head_and_dose():
    rows = [
        {"kind": "head", "heads": [0, 3], "layer": [0.25, 0.5]},
        {"kind": "steer", "doses": [-3, 1.5]},
        {"kind": "steer_random", "doses": [1.5], "seeds": 2},
        {"kind": "top", "count": 5, "site": "mlp"},
    ]
    found = ablation_conditions(AblateConfig.model_validate({"conditions": rows}))
    assert [condition.name for condition in found] == [
        "sham", "head_0_depth25", "head_3_depth25", "head_0_depth50", "head_3_depth50",
        "steer_-3", "steer_1.5", "steer_random_1.5", "steer_random_1.5", "top_5_in_mlp",
    ]  # fmt: skip
    assert [condition.label for condition in found[3:7]] == [
        "attention head 0 bypassed, at 50% depth", "attention head 3 bypassed, at 50% depth",
        "steered along the probe’s direction by −3 SD",
        "steered along the probe’s direction by +1.5 SD",
    ]  # fmt: skip
    assert found[6].controls == ("steer_random_1.5",)
    assert found[9].controls == ("matched_5_in_mlp", "random_5_in_mlp")


@pytest.mark.parametrize(
    ("entry", "first"),
    [
        ({"kind": "top", "count": 5}, 20),
        ({"kind": "top", "count": 5, "layer": 0.5}, 17),
        ({"kind": "random", "count": 5, "layer": 1.0}, 32),
        ({"kind": "mlp"}, 19),
        ({"kind": "mlp", "layer": 0.25}, 8),
        ({"kind": "head", "heads": [1]}, 19),
        ({"kind": "random", "count": 5, "site": "mlp"}, 19),
        ({"kind": "steer", "doses": [2]}, 20),
    ],
)
def test_the_first_changed_layer_is_that_of_the_edit(entry: dict[str, object], first: int):
    (_, condition) = ablation_conditions(AblateConfig.model_validate({"conditions": [entry]}))
    assert condition.first_changed_layer(32, best_layer=19) == first
    layer = condition.layer(32, best_layer=19)
    probe = RankedNeurons(np.arange(8)[::-1], np.linspace(0, 1, 8), np.ones(8))
    site = AblationSite(
        layer, probe, condition.n_neurons(8), condition.value, seed=0, site=condition.site,
        step=np.ones(8),
    )  # fmt: skip
    assert condition.edit(site).first_changed_layer == first


def test_an_ablation_edits_the_neurons_that_its_kind_names():
    ranked, mean = np.array([3, 1, 0, 2]), np.array([0.0, 0.1, 0.2, 0.3])
    top, random, bypass = (
        condition.edit(
            AblationSite(2, RankedNeurons(ranked, mean, mean), 2, condition.value, seed=7)
        )
        for condition in (
            AblationCondition("top", 2, value="mean"),
            AblationCondition("random", 2, value="plus_100"),
            AblationCondition("mlp"),
        )
    )
    assert top.neurons.tolist() == [3, 1]  # type: ignore[union-attr]
    assert top.value.tolist() == [0.3, 0.1]  # type: ignore[union-attr]
    drawn = np.random.default_rng(7).permutation(4)[:2]
    assert random.neurons.tolist() == sorted(drawn)  # type: ignore[union-attr]
    assert random.value == 100.0  # type: ignore[union-attr]
    assert (bypass.layer, bypass.n_neurons, top.n_neurons) == (2, 0, 2)


def test_a_study_finds_its_conditions_and_contrasts_by_name():
    found = conditions_by_name(
        study(
            mask={"conditions": mask_rows(dose=[0.05], controls=["bottom"], random_seeds=3)},
            ablate={
                "conditions": [
                    {"kind": "top", "count": 5},
                    {"kind": "top", "count": 10},
                    {"kind": "random", "count": 5, "seeds": 4},
                ]
            },
        )
    )
    assert list(found.mask) == [
        "sham", "top_30", "random_30", "bottom_30", "top_5", "random_5",
    ]  # fmt: skip
    assert list(found.ablate) == ["sham", "top_5", "top_10", "random_5"]
    # The same name means another thing in each intervention.
    assert found.named("mask", "top_5").label == "most attended 5% of patches"
    assert found.named("ablate", "top_5").label == "top 5 neurons"
    assert found.named("ablate", "top_5 - random_5").label == "top 5 neurons − random"
    contrasts = found.contrasts("mask")
    assert list(contrasts) == ["top_30", "bottom_30", "top_5"]
    assert contrasts["top_30"] == found.named("mask", "top_30 - random_30")
    assert list(found.contrasts("ablate")) == ["top_5"]  # top_10 has no random twin
    with pytest.raises(InputError, match="unknown condition 'top_31'; did you mean 'top_30'"):
        found.named("mask", "top_31")


@pytest.mark.parametrize(
    ("mask", "ablate", "main"),
    [
        ({}, {}, ("top_30", "top_5")),
        ({"conditions": mask_rows(share=0.2)}, {}, ("top_20", "top_5")),
        ({}, {"conditions": [{"kind": "top", "count": 9}]}, ("top_30", "top_9")),
        # Without a plain one, another stands for it.
        (
            {"conditions": mask_rows(mode="pixels")},
            {"conditions": [{"kind": "top", "count": 9, "value": "mean"}]},
            ("top_30_pixels", "top_9_mean"),
        ),
        ({}, {"conditions": [{"kind": "mlp"}]}, ("top_30", None)),
    ],
)
def test_the_main_condition(mask: object, ablate: object, main: tuple[str, str | None]):
    found = conditions_by_name(study(mask=mask, ablate=ablate))
    conditions = [found.main("mask"), found.main("ablate")]
    assert tuple(c.name if c else None for c in conditions) == main


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"mask": {"conditions": [{"kind": "botom", "share": 0.3}]}},
            "unknown kind 'botom'; did you mean 'bottom'? (known: top, random, bottom, object, ",
        ),
        ({"mask": {"conditions": [{"kind": "top"}]}}, "top needs a share"),
        ({"mask": {"conditions": [{"kind": "top", "share": 1.5}]}}, "less than or equal to 1"),
        ({"mask": {"conditions": [{"kind": "no_image", "share": 0.3}]}}, "takes no share"),
        ({"mask": {"conditions": [{"kind": "no_image", "mode": "pixels"}]}}, "takes no mode"),
        (
            {"mask": {"conditions": [{"kind": "random", "share": 0.3, "layers": [0, 1]}]}},
            "random takes no ranking and no layers",
        ),
        (
            {"mask": {"conditions": [{"kind": "top", "share": 0.3, "layers": [5, 2]}]}},
            "[5, 2] is not a range",
        ),
        (
            {
                "mask": {
                    "conditions": [{"kind": "bottom", "share": 0.3, "ranking": "without_sinks"}]
                }
            },
            "sinks would count as the least attended",
        ),
        ({"mask": {"conditions": [{"kind": "top", "share": 0.3, "seeds": 2}]}}, "no seeds"),
        ({"mask": {"conditions": 2 * [{"kind": "no_image"}]}}, "given twice: no_image"),
        ({"ablate": {"conditions": [{"kind": "head"}]}}, "head needs heads"),
        ({"ablate": {"conditions": [{"kind": "head", "heads": [-1]}]}}, "numbered from 0"),
        ({"ablate": {"conditions": [{"kind": "mlp", "site": "mlp"}]}}, "neither site nor value"),
        ({"ablate": {"conditions": [{"kind": "steer"}]}}, "steer needs doses"),
        (
            {"ablate": {"conditions": [{"kind": "steer", "doses": [0]}]}},
            "0 moves nothing",
        ),
        (
            {"ablate": {"conditions": [{"kind": "steer", "doses": [float("nan")]}]}},
            "finite number",
        ),
        ({"ablate": {"conditions": [{"kind": "mlp", "layer": []}]}}, "give a depth from 0 to 1"),
        ({"ablate": {"conditions": [{"kind": "mlp", "doses": [1]}]}}, "mlp takes no doses"),
        ({"ablate": {"conditions": [{"kind": "mlp", "layer": 1.5}]}}, "less than or equal to 1"),
        (
            {"ablate": {"conditions": [{"kind": "tops", "count": 1}]}},
            "unknown kind 'tops'; did you mean 'top'? (known: top, matched, random, mlp, head, ",
        ),
        ({"ablate": {"conditions": [{"kind": "top"}]}}, "give either count or share"),
        ({"ablate": {"conditions": [{"kind": "mlp", "count": 1}]}}, "neither count nor share"),
        ({"ablate": {"conditions": [{"kind": "top", "count": 1, "seeds": 2}]}}, "no seeds"),
        (
            {"ablate": {"conditions": 2 * [{"kind": "top", "count": 1}]}},
            "given twice: top_1",
        ),
    ],
)
def test_conditions_that_cannot_be_are_refused_in_one_line(
    sections: dict[str, object], message: str
):
    with pytest.raises(InputError) as caught:
        study(**sections)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_registered_ablation_is_compared_with_its_control():
    last = AblationKind(
        "bottom", "bottom", lambda site: site.replace(site.neurons.ranked[-site.n_neurons :]),
        control="random",
    )  # fmt: skip
    register_condition(last)
    try:
        entries = [{"kind": kind, "count": 3} for kind in ("bottom", "random")]
        found = conditions_by_name(study(ablate={"conditions": entries}))
        assert list(found.ablate) == ["sham", "bottom_3", "random_3"]
        assert found.contrasts("ablate")["bottom_3"].label == "bottom 3 neurons − random"
        assert found.main("ablate") is None
        site = AblationSite(
            1, RankedNeurons(np.arange(8), np.zeros(8), np.ones(8)), 3, "zero", seed=0
        )
        (_, bottom, _) = ablation_conditions(AblateConfig.model_validate({"conditions": entries}))
        assert bottom.edit(site).neurons.tolist() == [5, 6, 7]  # type: ignore[union-attr]
    finally:
        del ABLATION_KINDS["bottom"]


def test_a_registered_kind_is_named_by_the_config(centre: MaskKind):
    mask = MaskConfig(conditions=[{"kind": "centre", "share": 0.25}])
    condition = mask_conditions(mask)[-1]
    assert condition == MaskCondition("centre", 0.25)
    assert (condition.name, condition.controls) == ("centre_25", ("random_25",))
    image = MaskableImage(np.full(16, 1 / 16), grid_h=4, grid_w=4, seed=0)
    assert sorted(condition.hidden_tokens(image)) == [5, 6, 9, 10]
    with pytest.raises(InputError, match="'centre' exists already"):
        register_condition(centre)
    with pytest.raises(InputError, match="letters, digits and _ only"):
        register_condition(MaskKind("the centre", "central", shows="blank"))
    assert "the centre" not in MASK_KINDS


def test_matched_neurons_are_as_large_as_the_top_ones_and_none_of_them():
    random = np.random.default_rng(0)
    norm = random.permutation(np.linspace(0.1, 10, 400))
    ranked = random.permutation(400)
    probe = RankedNeurons(ranked, np.zeros(400), norm)
    condition = AblationCondition("matched", 5)
    sets = [
        condition.edit(AblationSite(1, probe, 5, "zero", seed=seed)).neurons  # type: ignore[union-attr]
        for seed in range(50)
    ]
    for drawn in sets:
        assert len(set(drawn.tolist())) == 5
        assert not set(drawn.tolist()) & set(ranked[:5].tolist())
        # Each top neuron has a partner within thirty places of norm.
        gaps = np.abs(np.sort(norm[drawn]) - np.sort(norm[ranked[:5]]))
        assert gaps.max() < 36 * 9.9 / 399
    assert len({tuple(drawn) for drawn in sets}) > 40


def test_a_matched_control_is_preferred():
    entries = [{"kind": kind, "count": 3} for kind in ("top", "random", "matched")]
    found = conditions_by_name(study(ablate={"conditions": entries}))
    assert found.contrasts("ablate")["top_3"].name == "top_3 - matched_3"
    assert found.contrasts("ablate")["top_3"].label == "top 3 neurons − norm-matched random"


def test_directions_of_opposite_doses_are_one_draw():
    rows = [{"kind": "steer_random", "doses": [-3, 1, 3], "seeds": 2, "layer": [0.5, 1]}]
    found = ablation_conditions(AblateConfig.model_validate({"conditions": rows}))[1:]
    assert len(found) == 12
    assert {condition.draw for condition in found} == {
        "steer_random_1_depth50", "steer_random_1_depth100"
    }  # fmt: skip
    step = np.array([3.0, 4.0, 0.0])
    neurons = RankedNeurons(np.arange(3), np.zeros(3), np.ones(3))
    forth, back = (
        found[0].edit(AblationSite(0, neurons, 0, "zero", seed=7, step=step, dose=dose)).vector
        for dose in (3.0, -3.0)
    )
    np.testing.assert_allclose(forth, -back)
    np.testing.assert_allclose(np.linalg.norm(forth), 15.0)  # three steps of length 5


def test_random_twins_of_the_object_lie_on_the_photograph():
    """Of 16 tokens the first and last row are padding; the object covers three of the others."""
    photograph = np.repeat([False, True, True, False], 4)
    on_object = np.zeros(16, dtype=bool)
    on_object[[5, 6, 9]] = True
    images = [
        MaskableImage(np.full(16, 1 / 16), 4, 4, seed, on_object, photograph) for seed in range(50)
    ]
    hidden = [MaskCondition("random_object").hidden_tokens(image) for image in images]
    assert {len(set(tokens.tolist())) for tokens in hidden} == {3}
    assert set(np.concatenate(hidden).tolist()) == set(range(4, 12))
    assert MaskCondition("object").hidden_tokens(images[0]).tolist() == [5, 6, 9]
    assert MaskCondition("background").hidden_tokens(images[0]).tolist() == [4, 7, 8, 10, 11]
    others = MaskCondition("random_background").hidden_tokens(images[0])
    assert len(others) == 5
    assert set(others.tolist()) <= set(range(4, 12))

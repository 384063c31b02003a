import pytest
import yaml

from vrp.config.study import STAGE_KEYS, load_study, stage_config, study_from_mapping
from vrp.errors import InputError

MODEL = {"family": "llava", "checkpoint": "zoo:llava"}


def minimal(**more):
    return {"study": "demo", "models": {"llava": MODEL}, **more}


def test_defaults_are_the_papers_items():
    study = study_from_mapping(minimal())
    assert sum(split.count for split in study.sample.splits) == 3090
    assert study.consistency.k == 10
    assert study.mask.share == 0.3


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (minimal(probs={}), ["'probs'", "'probes'"]),
        (minimal(probes={"fold": 3}), ["'probes.fold'", "'folds'"]),
        ({"study": "a", "models": {"m": {"family": "llava", "chekpoint": "x"}}}, ["'checkpoint'"]),
        (minimal(ablate={"conditions": [{"neurons": "top", "cout": 1}]}), ["'count'"]),
        (minimal(probes={"folds": 1}), ["probes.folds", "found 1"]),
        (minimal(study="Demo Study"), ["'study'", "lower-case"]),
        (minimal(data={"images": "../elsewhere"}), ["inside the data folder"]),
        (minimal(data={"scenes": {"namespace": "zoo-train"}}), ["zoo"]),
        ({"study": "a", "models": {"figures": MODEL}}, ["figures"]),
        ({"models": {"m": MODEL}}, ["'study' is missing"]),
    ],
)
def test_a_wrong_key_is_one_clear_line(raw, words):
    with pytest.raises(InputError) as caught:
        study_from_mapping(raw, where="study.yaml")
    message = str(caught.value)
    assert message.startswith("study.yaml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "word"),
    [("study: [", "valid YAML"), ("- a\n- b\n", "mapping"), (None, "cannot be read")],
)
def test_a_broken_file_is_named(tmp_path, content, word):
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=word) as caught:
        load_study(path)
    assert str(path) in str(caught.value)


def test_a_file_round_trips(tmp_path):
    study = study_from_mapping(minimal(seed=7))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert load_study(path) == study


def test_stage_config_holds_what_the_stage_reads_and_nothing_else():
    study = study_from_mapping(minimal())
    keys = stage_config(study, "probes")
    assert keys["probes.folds"] == 5
    assert all(key.startswith(("seed", "probes.", "metrics.auroc_margin")) for key in keys)


def test_stage_config_of_a_model_ignores_the_other_models():
    one = study_from_mapping(minimal())
    two = study_from_mapping(
        {"study": "demo", "models": {"llava": MODEL, "more": {**MODEL, "dtype": "bfloat16"}}}
    )
    assert stage_config(one, "extract", "llava") == stage_config(two, "extract", "llava")
    assert stage_config(two, "extract", "more") != stage_config(two, "extract", "llava")


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_every_stage_key_exists(stage):
    assert stage_config(study_from_mapping(minimal()), stage, "llava")


def test_a_condition_has_one_size_and_a_name():
    study = study_from_mapping(
        minimal(
            ablate={
                "conditions": [
                    {"neurons": "random", "share": 0.25, "seeds": 5, "value": "mean"},
                    {"neurons": "mlp", "layer": 0.5},
                ]
            }
        )
    )
    names = [condition.name for condition in study.ablate.conditions]
    assert names == ["random_25pct_mean", "mlp_bypass_depth50"]
    with pytest.raises(InputError, match="either count or share"):
        study_from_mapping(minimal(ablate={"conditions": [{"neurons": "top"}]}))

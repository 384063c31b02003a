"""The written reference follows the types."""

import json
from pathlib import Path

import pytest
import yaml

from vrp.config import reference
from vrp.config.study import StudyConfig, study_from_mapping

CONFIG = Path(__file__).parents[2] / "config"


def test_readme_and_schema_are_up_to_date(capsys):
    reference.main([str(CONFIG), "--check"])  # exits with the command that mends it


@pytest.mark.parametrize("name", ["README.md", "schema.json"])
def test_drift_is_noticed_and_mended(tmp_path, name):
    for file in ("README.md", "schema.json"):
        (tmp_path / file).write_text((CONFIG / file).read_text(encoding="utf-8"))
    drifted = tmp_path / name
    right = drifted.read_text(encoding="utf-8")
    drifted.write_text(right.replace("Maximum length", "Minimum length"))
    assert drifted.read_text() != right
    with pytest.raises(SystemExit, match=f"{name} differs"):
        reference.main([str(tmp_path), "--check"])
    reference.main([str(tmp_path)])
    assert drifted.read_text(encoding="utf-8") == right


def test_every_key_has_a_meaning_and_is_listed_once():
    paths = [key.path for key in reference.all_keys()]
    assert len(paths) == len(set(paths))
    for key in reference.all_keys():
        assert key.meaning, key.path
        assert key.type
    assert {"study", "extract.shards", "models.*.dtype", "ablate.conditions[].kind"} <= set(paths)


def test_every_leaf_of_the_configuration_is_listed():
    """Known from a dump of a whole configuration, not from the walk over the types."""
    repository = {"repository": "owner/name", "revision": "main"}
    study = study_from_mapping(
        {
            "study": "s",
            "models": {"m": {"family": "f", "checkpoint": "c"}},
            "data": {"hub": {"pope": repository}},
        }
    )

    def leaves(value, path):
        if isinstance(value, dict) and value:
            return {leaf for name, v in value.items() for leaf in leaves(v, (*path, name))}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            listed = {".".join(path) + "[]"}
            return listed | leaves(value[0], (*path[:-1], f"{path[-1]}[]"))
        return {".".join(path)}

    dumped = study.model_dump(mode="json")
    dumped["models"] = {"*": dumped["models"]["m"]}
    dumped["data"]["hub"] = {"*": dumped["data"]["hub"]["pope"]}
    assert leaves(dumped, ()) == {key.path for key in reference.all_keys()}


def test_types_bounds_and_defaults_in_words():
    found = {key.path: key for key in reference.all_keys()}
    assert found["extract.shards"].type == "whole number ≥ 1"
    assert found["scoring.vqa_threshold"].type == "number > 0, ≤ 1"
    assert found["models.*.max_pixels"].type == "whole number ≥ 1 or `null`"
    assert found["extract.hidden_dtype"].type == "`float32`, `float16`"
    assert found["study"].default == "required"
    assert found["models.*.revision"].default == "null"
    assert found["extract.blind"].default == "true"
    assert found["consistency.temperature"].default == "0.7"


def test_the_schema_accepts_the_studies_and_refuses_unknown_keys():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((CONFIG / "schema.json").read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator(schema)
    for path in sorted(CONFIG.glob("*.yaml")):
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert not list(check.iter_errors(study)), path.name
        assert list(check.iter_errors({**study, "sede": 1}))


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="keys: begin"):
        reference.with_table("# Configuration")


def test_studies_load_and_real_checkpoints_are_pinned():
    studies = {path.stem: path for path in CONFIG.glob("*.yaml")}
    assert set(studies) == {"demo", "demo-full", "ci", "paper", "paper-13b"}
    for name, path in studies.items():
        study = StudyConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert study.study == name
        for model in study.models.values():
            embedded = model.checkpoint.startswith("zoo:")
            assert embedded == (not name.startswith("paper"))
            assert embedded or len(model.revision or "") == 40
            assert (model.device_map == "auto") == (name == "paper-13b")
        if name != "ci":
            counts = {split.task: split.count for split in study.sample.splits}
            assert counts == {"existence": 1000, "counting": 1000, "spatial": 1000, "open": 90}

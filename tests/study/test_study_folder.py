"""A study's folder opened by itself, wherever it has been moved to."""

import shutil

import polars as pl
import pytest
import yaml

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.study.graph import LISTS, STAGE
from vrp.study.keys import stage_config
from vrp.study.provenance import digest
from vrp.study.study_folder import open_study_folder, read_snapshot
from vrp.tables.answers import ANSWERS
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import write_table
from vrp.tables.seal import read_seal
from vrp.tables.shard_list import write_shard_list

MODEL = {"family": "llava", "checkpoint": "zoo:llava"}


def empty(schema):
    return {name: [] for name in schema.columns.names}


def origin(study, stage, model=""):
    config = digest(stage_config(study, STAGE[stage], model or None))
    return {"study": study.study, "stage": stage, "model": model, "config": config}


def write(folder, study, stage, path, schema, *, model=""):
    provenance = origin(study, stage, model)
    write_table(folder / path, schema, empty(schema), provenance=provenance)
    return folder / path


@pytest.fixture
def folder(tmp_path):
    """Two models, in an order that is not the alphabet's; one of them has answers and neurons."""
    study = study_from_mapping(
        {
            "study": "s",
            "results": str(tmp_path / "results"),
            "models": {"second": MODEL, "first": MODEL},
            "metrics": {"auroc_margin": 0.03},
        }
    )
    folder = tmp_path / "results" / "s"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    )
    write(folder, study, "sample", "items.parquet", ITEMS)
    for model in study.models:
        write(folder, study, "probes", f"{model}/neurons.parquet", NEURONS, model=model)
    path = write(folder, study, "extract", "second/answers/000.parquet", ANSWERS, model="second")
    write_shard_list(
        folder / LISTS["extract"].path.replace("{model}", "second"),
        made_by=origin(study, "extract", "second"),
        shards={"answers": {path: read_seal(path)}},
    )
    return folder


def test_tables_are_found_and_models_keep_their_order(folder):
    found = open_study_folder(folder)
    assert [model.name for model in found.models] == ["second", "first"]
    second, first = found.models
    assert second.paths(ANSWERS) == [folder / "second" / "answers" / "000.parquet"]
    assert first.paths(NEURONS) == [folder / "first" / "neurons.parquet"]
    assert first.paths(ANSWERS) == second.paths(LENS) == []
    assert found.table(ITEMS).schema["item_id"] == pl.String
    assert found.margins == EquivalenceMargins(auroc=0.03)
    assert "top_30" in found.conditions.mask


def test_a_folder_that_was_moved_and_renamed_opens(folder, tmp_path, monkeypatch):
    shutil.move(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "elsewhere"
    assert open_study_folder(moved).models[0].paths(ANSWERS)[0].is_relative_to(moved)
    assert read_snapshot(moved).results == str(tmp_path)


def test_extensions_are_found_from_anywhere(folder, monkeypatch, tmp_path_factory):
    ran_in = folder.parent.parent
    (ran_in / "extensions").mkdir()
    (ran_in / "extensions" / "of_moved_study.py").write_text("")
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    raw |= {"extensions": ["extensions/of_moved_study.py"], "results": "results"}
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path_factory.mktemp("another"))
    assert read_snapshot(folder).extensions[0].endswith("extensions/of_moved_study.py")


@pytest.mark.parametrize(
    ("place", "said"),
    [("nowhere", "holds no config.yaml; give the results folder of a study"), ("first", "give ")],
)
def test_a_folder_that_is_no_study_is_refused(folder, place, said):
    with pytest.raises(InputError, match=said) as refused:
        open_study_folder(folder / place if place == "first" else folder.parent / place)
    assert (str(folder) in str(refused.value).partition("give")[2]) == (place == "first")


def test_a_study_that_has_not_begun_is_refused(folder):
    (folder / "items.parquet").unlink()
    with pytest.raises(InputError, match=r"holds no items\.parquet; run the study first"):
        open_study_folder(folder)


def test_tables_of_another_study_are_refused(folder):
    raw = yaml.safe_load((folder / "config.yaml").read_text()) | {"study": "other"}
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(InputError, match="is of study 's', not 'other'"):
        open_study_folder(folder)

"""A stage of all models on a study's folder, of which part is missing."""

from pathlib import Path

import pytest
import yaml

from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.study import unfinished
from vrp.study.graph import STAGE
from vrp.study.layout import StudyLayout

MODEL = {"family": "llava", "checkpoint": "zoo:llava"}
REPORT = STAGE["report"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Every file of a whole study of two models, empty, under another name than the study's."""
    monkeypatch.chdir(tmp_path)
    study = study_from_mapping(
        {"study": "s", "models": {"one": MODEL, "two": MODEL}, "data": {"folder": "images"}}
    )
    layout = StudyLayout(study)
    names = [path.relative_to(layout.results) for path in layout.final_files()]
    names += [
        Path(f"{model}/{stage}.json")
        for model in study.models
        for stage in ("extract", "consistency", "mask")
    ]
    folder = tmp_path / "moved" / "renamed"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "config.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    return folder


@pytest.fixture
def called(monkeypatch):
    """What the stage would be run with, and from where."""
    calls = []

    def run_stage(stage, study, *, files, missing):
        calls.append({"stage": stage, "files": files, "missing": missing, "from": Path.cwd()})

    monkeypatch.setattr(unfinished, "run_stage", run_stage)
    return calls


def test_a_whole_study_is_read_and_written_in_its_folder(folder, called):
    unfinished.run_in_folder(REPORT, folder)
    [call] = called
    assert call["missing"] == {}
    assert call["files"]["report"] == [folder / "report.html"]
    assert call["files"]["probes"] == [folder / "one/probes.parquet", folder / "two/probes.parquet"]
    assert call["files"]["figures"]
    assert all(folder in path.parents for paths in call["files"].values() for path in paths)


def test_what_a_model_lacks_is_named_and_the_rest_is_read(folder, called):
    (folder / "two" / "probes.parquet").unlink()
    (folder / "two" / "neurons.parquet").unlink()
    (folder / "two" / "mask.json").unlink()
    (folder / "effects.parquet").unlink()
    unfinished.run_in_folder(REPORT, folder)
    assert called[0]["missing"] == {"": ["effects"], "two": ["probes", "mask"]}
    assert called[0]["files"]["probes"] == [folder / "one/probes.parquet"]
    assert called[0]["files"]["signals"] == [
        folder / f"{m}/signals.parquet" for m in ("one", "two")
    ]


def test_a_model_without_answers_is_left_out(folder, called):
    (folder / "one" / "extract.json").unlink()
    unfinished.run_in_folder(REPORT, folder)
    assert called[0]["missing"] == {"one": ["extract"]}
    of_models = called[0]["files"]["signals"] + called[0]["files"]["extract"]
    assert of_models == [folder / "two/signals.parquet", folder / "two/extract.json"]


def test_paths_of_the_configuration_lead_from_the_folder_that_has_the_data(folder, called):
    (folder.parent / "images").mkdir()
    before = Path.cwd()
    unfinished.run_in_folder(REPORT, folder)
    assert called[0]["from"] == folder.parent
    assert Path.cwd() == before


def test_the_explorer_has_its_files_beside_it(folder, called):
    (folder / "one" / "consistency.json").unlink()
    unfinished.run_in_folder(STAGE["explorer"], folder)
    [call] = called
    assert "consistency" in call["missing"]["one"]
    assert call["files"]["explorer"] == [folder / "explorer.html"]
    assert folder / "explorer/models/two/details/000.js" in call["files"]["explorer_files"]
    assert not {"figures", "effects"} & set(call["files"])


def test_nothing_to_report_is_an_error(folder, called):
    for model in ("one", "two"):
        (folder / model / "extract.json").unlink()
    with pytest.raises(InputError, match=r"renamed: holds no answers of any model"):
        unfinished.run_in_folder(REPORT, folder)
    assert not called


def test_a_study_without_its_sampling_is_named(folder, called):
    (folder / "sampling.json").unlink()
    with pytest.raises(InputError, match=r"renamed: holds no sampling.json; run the study first"):
        unfinished.run_in_folder(REPORT, folder)


def test_a_folder_that_is_no_study(tmp_path, called):
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        unfinished.run_in_folder(REPORT, tmp_path)

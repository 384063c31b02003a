"""Checkpoints and question files: their contents count, their times do not."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from snakemake.io import is_flagged

from vrp.workflow import watched_files
from vrp.workflow.watched_files import checkpoint_files, mark_unchanged_ancient, question_files

MANIFEST = Path("manifest.json")


@pytest.fixture(autouse=True)
def no_cache():
    watched_files._sha256.cache_clear()


def write(path: Path, text: str, time: float = 3000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))


def state(manifest: Path, **files: str) -> None:
    """Write a manifest that states the digests of these contents, at time 2000."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    write(manifest, json.dumps({"files": digests}), time=2000)


def is_watched(path: str) -> bool:
    return not is_flagged(path, "ancient")


def test_a_changed_content_is_watched_and_a_changed_time_is_not():
    names = ("same", "edited", "unlisted")
    for name in names:
        write(Path("folder", name), name)
    assert all(map(is_watched, mark_unchanged_ancient(MANIFEST, Path("folder"), names)))
    state(MANIFEST, same="same", edited="before")
    paths = mark_unchanged_ancient(MANIFEST, Path("folder"), names)
    assert paths == ["folder/same", "folder/edited", "folder/unlisted"]
    assert [is_watched(path) for path in paths] == [False, True, False]


def test_a_file_that_is_no_newer_than_the_manifest_is_not_read(monkeypatch):
    write(Path("folder/file"), "content", time=1000)
    state(MANIFEST, file="content")
    monkeypatch.setattr(watched_files, "_sha256", lambda path: pytest.fail("read"))
    (path,) = mark_unchanged_ancient(MANIFEST, Path("folder"), ["file"])
    assert is_watched(path)  # for Snakemake, which compares the times


def test_a_link_that_was_changed_is_looked_into():
    write(Path("target"), "other", time=1000)
    Path("folder").mkdir()
    Path("folder/link").symlink_to("../target")
    state(MANIFEST, link="content")
    (path,) = mark_unchanged_ancient(MANIFEST, Path("folder"), ["link"])
    assert is_watched(path)


def test_a_checkpoints_files_but_for_its_notes(study):
    for name in ("config.json", "model.safetensors", "README.md"):
        write(Path("checkpoint", name), name)
    assert checkpoint_files(study, "one") == [
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
    ]
    state(Path("results/tiny/models/one.json"), **{"config.json": "config.json"})
    assert [is_watched(path) for path in checkpoint_files(study, "one")] == [False, False]


def test_an_embedded_model_that_does_not_exist_has_none(study):
    models = {"one": study.models["one"].model_copy(update={"checkpoint": "zoo:none"})}
    assert checkpoint_files(study.model_copy(update={"models": models}), "one") == []


def test_question_files_are_those_that_are_there(study):
    (name,) = study.data.question_files([("pope", "random")])
    assert question_files(study) == []
    write(Path("data", name), "questions")
    (path,) = question_files(study)
    assert path == f"data/{name}"
    assert is_watched(path)
    state(Path("results/tiny/data.json"), **{name: "questions"})
    assert [is_watched(path) for path in question_files(study)] == [False]


def test_a_study_that_makes_its_data_watches_none(study):
    data = study.data.model_copy(update={"origin": "scenes"})
    assert question_files(study.model_copy(update={"data": data})) == []

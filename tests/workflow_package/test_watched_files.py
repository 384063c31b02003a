"""Checkpoints and question files: their contents count, their times do not."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from snakemake.io import is_flagged

from vrp.tables.sealed_json import write_sealed_json
from vrp.workflow import watched_files
from vrp.workflow.watched_files import (
    changed_files,
    checkpoint_files,
    embedded_digest,
    mark_unchanged_ancient,
    question_files,
)
from vrp.zoo import zoo_checkpoint

MANIFEST = Path("manifest.json")


@pytest.fixture(autouse=True)
def no_cache():
    watched_files._sha256.cache_clear()


def write(path: Path, text: str, at: float = 3000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def state(manifest: Path, **files: str) -> None:
    """Write a manifest that states the digests of these contents, at time 2000."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    write_sealed_json(manifest, {"files": digests})
    os.utime(manifest, (2000, 2000))


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
    assert [is_watched(path) for path in paths] == [False, True, True]


def test_a_file_that_is_no_newer_than_the_manifest_is_not_read(monkeypatch):
    write(Path("folder/file"), "content", at=1000)
    state(MANIFEST, file="content")
    later = time.time() + 1000
    os.utime(MANIFEST, (later, later))
    monkeypatch.setattr(watched_files, "_sha256", lambda path: pytest.fail("read"))
    (path,) = mark_unchanged_ancient(MANIFEST, Path("folder"), ["file"])
    assert not is_watched(path)


def test_a_time_that_was_set_back_does_not_hide_another_content():
    state(MANIFEST, file="content")
    write(Path("folder/file"), "another", at=1000)
    (path,) = mark_unchanged_ancient(MANIFEST, Path("folder"), ["file"])
    assert is_watched(path)
    assert changed_files(MANIFEST, Path("folder"), ["file"]) == ["file"]


def test_a_link_that_was_changed_is_looked_into():
    write(Path("target"), "other", at=1000)
    Path("folder").mkdir()
    Path("folder/link").symlink_to("../target")
    state(MANIFEST, link="content")
    (path,) = mark_unchanged_ancient(MANIFEST, Path("folder"), ["link"])
    assert is_watched(path)


def test_a_checkpoints_files_but_for_its_notes(study):
    for name in ("config.json", "model.safetensors", "README.md", "a{b}.json"):
        write(Path("checkpoint", name), name)
    assert checkpoint_files(study, "one") == [
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
    ]
    stated = {name: name for name in ("config.json", "model.safetensors")}
    state(Path("results/tiny/models/one.json"), **stated)
    assert [is_watched(path) for path in checkpoint_files(study, "one")] == [False, False]


def test_a_template_that_was_added_is_watched(study):
    names = ["config.json", "model.safetensors"]
    for name in names:
        write(Path("checkpoint", name), name)
    state(Path("results/tiny/models/one.json"), **{name: name for name in names})
    for added in ("additional_chat_templates/default.jinja", "chat_template.json"):
        write(Path("checkpoint", added), "x", at=1000)
    watched = [path for path in checkpoint_files(study, "one") if is_watched(path)]
    assert watched == [
        "checkpoint/additional_chat_templates/default.jinja", "checkpoint/chat_template.json",
    ]  # fmt: skip


def test_an_embedded_model_that_does_not_exist_has_none(study):
    models = {"one": study.models["one"].model_copy(update={"checkpoint": "zoo:none"})}
    other = study.model_copy(update={"models": models})
    assert checkpoint_files(other, "one") == []
    assert embedded_digest(study, "one") == ""


def test_an_embedded_model_counts_by_its_content_wherever_it_is(study, tmp_path, monkeypatch):
    models = {"one": study.models["one"].model_copy(update={"checkpoint": "zoo:llava"})}
    study = study.model_copy(update={"models": models})
    assert checkpoint_files(study, "one") == []
    before = embedded_digest(study, "one")
    copy = shutil.copytree(zoo_checkpoint("llava"), tmp_path / "elsewhere")
    monkeypatch.setattr(watched_files, "zoo_checkpoint", lambda name: copy)
    assert embedded_digest(study, "one") == before
    (copy / "config.json").write_text("{}")
    watched_files._sha256.cache_clear()
    assert embedded_digest(study, "one") != before


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

"""Checkpoints and question files on this machine: their contents count, their times do not."""

import os
import time

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

STUDY = """
study: own
data: {origin: local, folder: data/own}
sample:
  splits: [{dataset: pope, split: random, task: existence, count: 8}]
models:
  one: {family: llava, checkpoint: ./checkpoints/one}
"""
TARGET = ("results/own/one/answers/000.parquet", "--configfile", "config/own.yaml")


@pytest.fixture(scope="module")
def own(checkout):
    """A study of own files that has run up to a shard's answers."""
    (checkout.folder / "config" / "own.yaml").write_text(STUDY)
    data = checkout.folder / "data" / "own"
    checkpoint = checkout.folder / "checkpoints" / "one"
    for folder in (data, checkpoint):
        folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "training.json", "README.md"):
        (checkpoint / name).write_text(f"content of {name}")
    for name in named_questions(checkout):
        questions = data / name
        questions.parent.mkdir(parents=True, exist_ok=True)
        questions.write_text("questions")
    result = checkout.run("--cores", "1", *TARGET)
    assert result.status == 0, result.output
    assert plan(checkout) == set()
    return checkout, checkpoint, questions


def named_questions(checkout):
    from vrp.config.study import load_study

    study = load_study(checkout.folder / "config" / "own.yaml")
    return study.data.question_files((s.dataset, s.split) for s in study.sample.splits)


def plan(checkout):
    result = checkout.run("-n", *TARGET)
    assert result.status == 0, result.output
    return set(result.planned)


def touch(path):
    later = time.time() + 60
    os.utime(path, (later, later))


def test_times_do_not_count(own):
    checkout, checkpoint, questions = own
    for path in (*checkpoint.iterdir(), questions):
        touch(path)
    (checkpoint / "README.md").write_text("edited")
    (checkpoint / "training.json").write_text("edited")  # not loaded
    assert plan(checkout) == set()


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("weights", {"fetch_model", "extract"}),
        ("questions", {"fetch_data", "sample", "extract"}),
    ],
)
def test_contents_count(own, edited, expected):
    checkout, checkpoint, questions = own
    path = questions if edited == "questions" else checkpoint / "model.safetensors"
    before = path.read_bytes()
    path.write_text("edited")
    touch(path)
    try:
        assert plan(checkout) == expected
    finally:
        path.write_bytes(before)
    assert plan(checkout) == set()

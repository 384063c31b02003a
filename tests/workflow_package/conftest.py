"""A small study in an empty folder."""

from pathlib import Path

import pytest

from vrp.config.study import StudyConfig, study_from_mapping


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def study() -> StudyConfig:
    """A study of own questions and one checkpoint on this machine."""
    return study_from_mapping(
        {
            "study": "tiny",
            "data": {"origin": "local", "folder": "data"},
            "sample": {
                "splits": [{"dataset": "pope", "split": "random", "task": "existence", "count": 8}]
            },
            "models": {"one": {"family": "llava", "checkpoint": "./checkpoint"}},
        },
        where="a test",
    )

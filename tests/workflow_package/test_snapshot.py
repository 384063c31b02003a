"""The configuration that `vrp` reads: written whole, and only where it changed."""

import os
from pathlib import Path

import pytest

from vrp.config.study import load_study
from vrp.workflow.snapshot import write_snapshot

PATH = Path("results/tiny/config.yaml")


def test_the_snapshot_is_the_study(study):
    write_snapshot(study, PATH)
    assert load_study(PATH) == study
    assert [path.name for path in PATH.parent.iterdir()] == ["config.yaml"]


def test_it_is_written_again_only_where_it_changed(study):
    write_snapshot(study, PATH)
    os.utime(PATH, (1000, 1000))
    write_snapshot(study, PATH)
    assert PATH.stat().st_mtime == 1000
    write_snapshot(study.model_copy(update={"seed": study.seed + 1}), PATH)
    assert PATH.stat().st_mtime != 1000


def test_a_folder_that_cannot_be_written_is_named(study):
    Path("results").write_text("a file")
    with pytest.raises(SystemExit, match=r"^Error: results/tiny/config.yaml: cannot be written"):
        write_snapshot(study, PATH)

"""Finished batches go once all tables of their shard are recorded; no others go."""

import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from vrp.workflow.clearing import remove_finished_batches, remove_partial_files

RESULTS = Path("results/tiny")


@pytest.fixture
def batches(request):
    """Finished batches of a shard."""
    folder = RESULTS / "one" / request.param / ".000.batches"
    folder.mkdir(parents=True)
    (folder / "plan.json").touch()
    return folder


def write(table: str) -> Path:
    path = RESULTS / "one" / table / "000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("batches", "tables"),
    [
        ("answers", ["answers", "attention", "hidden", "lens"]),
        ("blind/answers", ["blind/answers", "blind/hidden", "blind/scores"]),
        ("mask", ["mask"]),
    ],
    indirect=["batches"],
)
def test_batches_go_with_the_last_table_of_their_shard(batches, tables):
    for table in tables:
        remove_finished_batches(RESULTS)
        assert batches.is_dir()
        write(table)
    remove_finished_batches(RESULTS)
    assert not batches.exists()


@pytest.mark.parametrize("batches", ["answers"], indirect=True)
def test_batches_of_tables_that_snakemake_did_not_record_stay(batches):
    for table in ("answers", "hidden", "lens"):
        write(table)
    mark = Path(
        ".snakemake/incomplete", urlsafe_b64encode(str(write("attention")).encode()).decode()
    )
    mark.parent.mkdir(parents=True)
    mark.touch()
    remove_finished_batches(RESULTS)
    assert batches.is_dir()
    mark.unlink()
    remove_finished_batches(RESULTS)
    assert not batches.exists()


@pytest.mark.parametrize("batches", ["unknown"], indirect=True)
def test_batches_of_no_known_run_stay(batches):
    remove_finished_batches(RESULTS)
    assert batches.is_dir()


def test_half_written_files_that_nobody_writes_to_go():
    parts = {hours: RESULTS / "one" / f".000.parquet.{hours}@elsewhere.x.part" for hours in (0, 7)}
    for hours, path in parts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    remove_partial_files(RESULTS)
    assert parts[0].exists()
    assert not parts[7].exists()

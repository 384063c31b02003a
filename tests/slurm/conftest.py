"""A SLURM for the tests of one file, and copies of the project to run in."""

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import CONFIGURATION, SlurmCluster, is_in_use, running_cluster, why_not
from study_copy import StudyCopy


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """One node, one GPU. Its configuration has one place on a machine: one cluster at a time."""
    with Path(tempfile.gettempdir(), "vrp-slurm-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reason := why_not():
            pytest.skip(reason)
        if is_in_use():
            pytest.skip(f"another SLURM is configured in {CONFIGURATION}")
        with running_cluster(tmp_path_factory.mktemp("slurm")) as started:
            yield started


@pytest.fixture
def project(tmp_path: Path) -> StudyCopy:
    """A fresh copy without results."""
    folder = tmp_path / "project"
    folder.mkdir()
    return StudyCopy(folder)

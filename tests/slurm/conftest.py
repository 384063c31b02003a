"""A SLURM for the tests of one file, and copies of the project to run in."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from slurm_cluster import CONFIGURATION, SlurmCluster, is_in_use, running_cluster, why_not
from study_copy import StudyCopy


def do_without(reason: str) -> NoReturn:
    """Skip; where these tests are required, as in continuous integration, fail."""
    if os.environ.get("VRP_SLURM_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """One node, one GPU. Its configuration has one place on a machine: one cluster at a time."""
    with Path(tempfile.gettempdir(), "vrp-slurm-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reason := why_not():
            do_without(reason)
        if is_in_use():
            do_without(f"another SLURM is configured in {CONFIGURATION}")
        with running_cluster(tmp_path_factory.mktemp("slurm")) as started:
            yield started


@pytest.fixture
def project(tmp_path: Path) -> StudyCopy:
    """A fresh copy without results."""
    folder = tmp_path / "project"
    folder.mkdir()
    return StudyCopy(folder)

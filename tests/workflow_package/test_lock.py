"""The lock on a study's results: one process holds it, and it ends with that process."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from vrp.workflow import lock

HOLD = """
import sys
from pathlib import Path
from vrp.workflow.lock import acquire_results_lock
acquire_results_lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "_PAUSE", 0.0)


def test_results_that_no_run_has_seen_are_not_locked(tmp_path):
    assert not lock.results_are_locked(tmp_path / "none")


def test_a_lock_refuses_others_and_ends_with_its_process(tmp_path):
    results = tmp_path / "results" / "study"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(results)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert lock.results_are_locked(results)
        with pytest.raises(SystemExit) as refused:
            lock.acquire_results_lock(results)
        assert str(refused.value).startswith(
            f"Error: {results}: another run works here (process {holder.pid} on "
        )
    finally:
        holder.kill()
        holder.wait()
    assert not lock.results_are_locked(results)
    lock.acquire_results_lock(results)
    assert lock.results_are_locked(results)
    lock._LOCK_FILES.pop().close()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.chdir(tmp_path)
    lock.acquire_results_lock(tmp_path / "study")
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}/study/.lock: cannot be locked (No locks available)")
    # Snakemake's own lock of this folder tells.
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(f"{tmp_path}/other/items.parquet\n")
    assert not lock.results_are_locked(tmp_path / "study")
    (locks / "1.output.lock").write_text(f"{tmp_path}/study/items.parquet\n")
    assert lock.results_are_locked(tmp_path / "study")

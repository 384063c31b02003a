"""A stage that is told to end does so within seconds, non-zero, and leaves no temporary file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrp.study.command import command_line
from vrp.study.graph import STAGE
from vrp.termination import RUN_BY, is_alive

pytestmark = pytest.mark.slow

WRITES = """
import sys, time
from pathlib import Path
from vrp import cli
from vrp.tables.atomic_files import atomic_write

def write(options):
    with atomic_write(Path(sys.argv[1])) as part:
        part.write_text("half")
        Path(sys.argv[1] + ".started").touch()
        time.sleep(60)

class Parser:
    def parse_args(self, arguments):
        import argparse
        return argparse.Namespace(run=write, command="write")

cli.build_parser = Parser
cli.main()
"""


NOISY_END = """
def end():
    try:
        time.sleep(60)
    finally:
        time.sleep(0.5)
        print("last words", file=sys.stderr, flush=True)
"""


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def started(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, folder / "table"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder / "table.started")
    assert len(list(folder.iterdir())) == 2
    return process


def test_sigterm(tmp_path):
    process = started(tmp_path)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert time.monotonic() - told < 5
    assert [path.name for path in tmp_path.iterdir()] == ["table.started"]


BLOCKED = """
import hashlib, sys
from pathlib import Path
from vrp import termination

termination.install_sigterm_handler()
Path(sys.argv[1]).touch()
# One call that is not back in Python for a minute, whatever signals arrive.
hashlib.pbkdf2_hmac("sha512", b"a", b"b", 400_000_000)
"""


def test_sigterm_in_a_long_call_into_a_library(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", BLOCKED, tmp_path / "started"])
    wait_for(tmp_path / "started")
    time.sleep(0.5)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert 2 < time.monotonic() - told < 5


FORKS = """
import os, signal, sys, time
from vrp import termination

termination.install_sigterm_handler()
child = os.fork()
if child == 0:
    time.sleep(60)
time.sleep(0.5)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
time.sleep(4)
print("still here")
"""


def test_a_forked_process_ends_alone():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_sigterm_to_a_whole_job_is_logged_to_its_end(tmp_path):
    """As a cluster sends it: to the shell, the stage and what logs it, all at once."""
    rule = command_line(STAGE["probes"])
    logged = rule[rule.index("2>&1 |") :].replace("{log:q}", "log")
    code = WRITES.replace("time.sleep(60)", "end()").replace("def write", NOISY_END + "\ndef write")
    (tmp_path / "stage.py").write_text(code)
    stage = f"'{sys.executable}' stage.py table {logged}"
    job = subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; trap : TERM; {stage}; echo $? > status"],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    wait_for(tmp_path / "table.started")
    time.sleep(0.2)
    os.killpg(job.pid, signal.SIGTERM)
    job.wait(30)
    assert (tmp_path / "status").read_text() == "143\n"
    assert "last words" in (tmp_path / "log").read_text()
    assert not list(tmp_path.glob(".*"))


def test_a_stage_ends_with_its_workflow(tmp_path):
    workflow = subprocess.Popen(["sleep", "600"])
    process = started(tmp_path, **{RUN_BY: str(workflow.pid)})
    time.sleep(1.5)
    assert process.poll() is None
    workflow.kill()  # not reaped yet: it must count as ended all the same
    assert process.wait(30) == 143
    assert "the workflow that started this stage has ended" in process.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == ["table.started"]
    workflow.wait()


def test_is_alive():
    assert is_alive(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait()
    assert not is_alive(child.pid)

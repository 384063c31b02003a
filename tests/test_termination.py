"""A stage that is told to end does so within seconds, non-zero, and leaves no temporary file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vrp.termination import RUN_BY, is_alive

WRITES = """
import sys, time
from pathlib import Path
from vrp import cli
from vrp.tables.files import whole_file

def write(options):
    with whole_file(Path(sys.argv[1])) as part:
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


def started(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, folder / "table"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (folder / "table.started").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(list(folder.iterdir())) == 2
    return process


def test_sigterm(tmp_path):
    process = started(tmp_path)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert time.monotonic() - told < 5
    assert [path.name for path in tmp_path.iterdir()] == ["table.started"]


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

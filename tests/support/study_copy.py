"""A copy of the project to run real studies in, with the processes that it starts in view."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import warm_python
from programs import write_program

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SNAKEMAKE = BIN / "snakemake"
PROBED = Path(__file__).with_name("probed_vrp.py")
_SLICE = 0.1  # seconds


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    output: str


def in_one_shard(study: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose every stage runs one job a model: half the time of two."""
    return study | {name: study[name] | {"shards": 1} for name in ("extract", "mask", "ablate")}


def without_boxes(study: dict[str, Any]) -> dict[str, Any]:
    """A configuration that hides no object: of data that say not where objects are."""
    kept = [row for row in study["mask"]["conditions"] if "object" not in row["kind"]]
    return study | {"mask": study["mask"] | {"conditions": kept}}


class StudyCopy:
    """A folder with workflow, configs and profiles; `vrp` there writes down what it does."""

    def __init__(
        self,
        folder: Path,
        *,
        seconds_a_batch: float = 0,
        program: Path = PROBED,
        of: Path | None = None,
        warm: bool = False,
    ) -> None:
        """Make the copy.

        Args:
            folder: where.
            seconds_a_batch: by which a batch takes longer.
            program: what `vrp` runs there.
            of: a copy whose study has run, to begin with its results.
            warm: whether Snakemake and `vrp` start with their libraries imported: where it does
                not matter what a process is, and nothing is killed.
        """
        self.folder = folder
        self._seconds_a_batch = seconds_a_batch
        self.record = folder / "record.jsonl"
        if of is not None:
            shutil.copytree(of, folder, symlinks=True, dirs_exist_ok=True)
        else:
            self._copy_project()
        self._snakemake = warm_python.warm(SNAKEMAKE) if warm else [str(SNAKEMAKE)]
        vrp = warm_python.warm(program) if warm else [sys.executable, str(program)]
        write_program(folder / "bin" / "vrp", f'exec {shlex.join(vrp)} "$@"')

    def _copy_project(self) -> None:
        for name in ("workflow", "config", "envs"):
            shutil.copytree(ROOT / name, self.folder / name)
        shutil.copy(ROOT / "Snakefile", self.folder)
        for link in ("profiles", "slurm"):
            (self.folder / link).symlink_to((ROOT / link).readlink())
        (self.folder / "slurm" / "site.yaml").unlink(missing_ok=True)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start snakemake; its output goes to a file, so that orphans hold no pipe open."""
        # `-a`: one file for all attempts.
        with (self.folder / "snakemake.log").open("a") as log:
            return subprocess.Popen(
                [*self._snakemake, *arguments],
                cwd=self.folder,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
                    "PATH": f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}",
                    "XDG_CACHE_HOME": str(self.folder / "cache"),
                    "VRP_RECORD": str(self.record),
                    "VRP_SECONDS_A_BATCH": str(self._seconds_a_batch),
                    **environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *arguments: str, timeout: float = 900, **environment: str) -> Ended:
        """Run snakemake to its end; `output` is what this run printed."""
        before = len(self.log())
        process = self.start(*arguments, **environment)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(120)
            raise
        return Ended(status, self.log()[before:])

    def log(self) -> str:
        """Everything that snakemake printed here."""
        path = self.folder / "snakemake.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the stages wrote down: `start`, `batch`, `end`."""
        if not self.record.exists():
            return []
        lines = self.record.read_text().split("\n")[:-1]
        return [event for line in lines if (event := json.loads(line))["event"] == kind]

    def running(self) -> list[dict[str, Any]]:
        """The stages that live at this moment."""
        ended = {event["pid"] for event in self.events("end")}
        return [
            event
            for event in self.events("start")
            if event["pid"] not in ended and _lives(event["pid"])
        ]

    def running_models(self) -> list[dict[str, Any]]:
        """Those of them that run a model."""
        return [event for event in self.running() if event["runs_model"]]

    def computed_again(self) -> int:
        """How many batches were begun more than once, each beginning after the first counted."""
        begun = [event["batch"] for event in self.events("batch")]
        return len(begun) - len(set(begun))

    def cut_short(self) -> int:
        """How many stages that run a model did not end well."""
        well = {event["pid"] for event in self.events("end") if event["status"] == 0}
        return sum(
            event["pid"] not in well for event in self.events("start") if event["runs_model"]
        )

    def wait_for(self, met: Any, seconds: float, process: subprocess.Popen[str]) -> bool:
        """Wait until something holds; False where the run or the time ends before."""
        end = time.monotonic() + seconds
        while not met():
            if process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(_SLICE)
        return True


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until processes have ended; return those that have not."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if _lives(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Any]:
    """A file system of `size` bytes at a folder; yields a function that changes its size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        check=True, capture_output=True,
    )  # fmt: skip

    def resize(bytes_: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={bytes_}", folder], check=True, capture_output=True
        )

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", folder], check=False, capture_output=True)

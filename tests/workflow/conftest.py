"""A copy of the project to plan and run in, with a stand-in for `vrp` that computes nothing."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import write_program
from warm_python import warm

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


class Result(NamedTuple):
    """What a command printed and how it ended."""

    status: int
    output: str

    @property
    def planned(self) -> dict[str, int]:
        """Rule → number of jobs, from a dry-run's last table, without the target rule."""
        table = self.output.split("Job stats:")[-1] if "Job stats:" in self.output else ""
        rows = re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)
        return {name: int(count) for name, count in rows if name not in ("total", "all")}

    @property
    def jobs(self) -> dict[frozenset[str], dict[str, set[str]]]:
        """Outputs of every job that a dry-run prints → its rule, inputs, log and benchmark."""
        jobs: dict[frozenset[str], dict[str, set[str]]] = {}
        for rule, block in re.findall(
            r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", self.output, flags=re.MULTILINE
        ):
            fields = re.findall(r"^    (input|output|log|benchmark): (.*)$", block, re.MULTILINE)
            # What is kept until it is whole again is printed with its flag.
            parts = {n: set(paths.replace(" (update)", "").split(", ")) for n, paths in fields}
            if rule != "all":
                outputs = frozenset(parts.pop("output"))
                assert outputs not in jobs
                jobs[outputs] = {"rule": {rule}, "input": set(), **parts}
        return jobs

    def reasons(self, rule: str) -> list[str]:
        """The reason of every job of a rule, with its wildcards."""
        blocks = re.split(r"^(?=(?:local)?rule \w+:)", self.output, flags=re.MULTILINE)
        return [
            " ".join(re.findall(r"^    ((?:reason|wildcards): .*)$", block, flags=re.MULTILINE))
            for block in blocks
            if re.match(rf"(?:local)?rule {rule}:", block)
        ]


class Checkout(NamedTuple):
    """A copy of the project in which Snakemake can be run."""

    folder: Path
    run: Callable[..., Result]

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; an empty `old` appends."""
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1) if old else f"{text}\n{new}\n")


def make_checkout(folder: Path) -> Checkout:
    """Copy what Snakemake and `vrp` need."""
    for name in ("src", "workflow", "config", "envs"):
        # Compiled modules, too: copies keep their times.
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("weights"))
    shutil.copy(ROOT / "Snakefile", folder)
    for link in ("profiles", "slurm"):
        (folder / link).symlink_to((ROOT / link).readlink())
    script = Path(__file__).with_name("stand_in.py")
    write_program(folder / "bin" / "vrp", f'exec {shlex.join(warm(script))} "$@"')

    def run(*arguments: str, **environment: str) -> Result:
        done = subprocess.run(
            [*warm(BIN / "snakemake"), *arguments],
            cwd=folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
                "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
                "PYTHONPATH": str(folder / "src"),
                "HOME": str(folder),
                "XDG_CACHE_HOME": str(folder / "cache"),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Result(done.returncode, done.stdout)

    return Checkout(folder, run)


@pytest.fixture(scope="session")
def checkout_in() -> Callable[[Path], Checkout]:
    """Makes a fresh copy in a folder of one's own."""
    return make_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh copy without results."""
    return make_checkout(tmp_path_factory.mktemp("checkout"))


STUDY = """
study: tiny
models:
  one: {family: llava, checkpoint: zoo:llava}
  two: {family: qwen2_vl, checkpoint: "zoo:qwen2_vl"}
extract: {shards: 2}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy whose study `config/tiny.yaml` has run to its end."""
    copy = make_checkout(tmp_path_factory.mktemp("finished"))
    (copy.folder / "config" / "tiny.yaml").write_text(STUDY)
    result = copy.run("--cores", "2", "--configfile", "config/tiny.yaml")
    assert result.status == 0, result.output
    return copy

"""Runs on one machine take different GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import write_program

from vrp.config.models import ModelConfig
from vrp.running import gpus as gpu_choice
from vrp.running.gpus import VISIBLE, claim_gpus, visible_gpus

TAKES = """
import sys
from vrp.config.models import ModelConfig
from vrp.running.gpus import claim_gpus
options = {"device_map": "auto"} if "spread" in sys.argv else {}
print(claim_gpus(ModelConfig(family="llava", checkpoint="zoo:llava", **options)), flush=True)
sys.stdin.read()
"""


def model(**options: str) -> ModelConfig:
    return ModelConfig(family="llava", checkpoint="zoo:llava", **options)


@pytest.fixture
def taker(tmp_path, monkeypatch):
    """Start a process that takes a GPU and holds it; returns it and what it took."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    processes = []

    def take(
        visible: str = "0,1", *options: str, **environment: str
    ) -> tuple["subprocess.Popen[str]", str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKES, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, VISIBLE: visible, **environment},
        )  # fmt: skip
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield take
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_each_takes_another_and_then_they_share_evenly(taker):
    assert [taker()[1] for _ in range(4)] == ["0", "1", "0", "1"]


@pytest.mark.slow
def test_a_killed_run_gives_its_gpu_back(taker):
    first, gpu = taker()
    assert gpu == "0"
    assert taker()[1] == "1"
    first.kill()
    first.wait()
    assert taker()[1] == "0"


@pytest.mark.slow
def test_models_spread_over_several_take_as_many_as_were_put_aside(taker):
    two = {"VRP_GPUS": "2"}
    assert taker("0,1,2,3,4", "spread", **two)[1] == "0,1"
    assert taker("0,1,2,3,4")[1] == "2"
    assert taker("0,1,2,3,4", "spread", **two)[1] == "3,4"
    # All are held; a model that nothing was put aside for sees them all.
    assert taker("0,1,2,3,4", "spread", **two)[1] == "0,1"
    assert taker("0,1,2,3,4", "spread")[1] == "None"
    assert taker("0,1", "spread", **two)[1] == "None"


@pytest.mark.parametrize("visible", ["", "-1", "0", "GPU-5a"])
def test_one_gpu_or_none_is_no_choice(monkeypatch, visible):
    monkeypatch.setenv(VISIBLE, visible)
    assert claim_gpus(model()) is None
    assert os.environ[VISIBLE] == visible


@pytest.mark.parametrize(
    "options", [{"device": "cpu"}, {"device": "cuda:1"}, {"device_map": "auto"}]
)
def test_a_stated_device_is_left_alone(monkeypatch, options):
    monkeypatch.setenv(VISIBLE, "0,1")
    assert claim_gpus(model(**options)) is None


@pytest.mark.slow
def test_runs_in_one_allocation_of_several_take_different_ones(taker, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert [taker("0,1,2,3")[1] for _ in range(4)] == ["0", "1", "2", "3"]


def test_a_scheduler_has_chosen_already(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv(VISIBLE, "2")
    assert claim_gpus(model()) is None
    assert os.environ[VISIBLE] == "2"


def test_gpus_are_asked_for_where_none_are_stated(monkeypatch, tmp_path):
    monkeypatch.delenv(VISIBLE, raising=False)
    write_program(tmp_path / "nvidia-smi", "printf '0\\n1\\n2\\n'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus() == ["0", "1", "2"]
    write_program(tmp_path / "nvidia-smi", "exit 9")
    assert visible_gpus() == []


def test_the_choice_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, "3,4")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(gpu_choice, "_held", [])
    monkeypatch.setattr(gpu_choice.tempfile, "gettempdir", lambda: str(tmp_path))
    assert claim_gpus(model()) == "3"
    assert os.environ[VISIBLE] == "3"
    assert claim_gpus(model()) is None
    assert len(list(Path(tmp_path).rglob("3.0"))) == 1

"""Model runs side by side on GPUs that nobody has counted are refused, and no others."""

from types import SimpleNamespace
from typing import Any

import pytest

from vrp.workflow.gpu_count import require_gpu_count


def workflow(*gpus: int, **settings: Any) -> Any:
    """A local run on four cores whose jobs ask for so many GPUs each."""
    jobs = [SimpleNamespace(resources={"gpu": count}) for count in gpus]
    run = {"local_exec": True, "touch": False, "cores": 4, "global_resources": {}} | settings
    return SimpleNamespace(**run, dag=SimpleNamespace(needrun_jobs=lambda: jobs))


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def test_several_jobs_with_a_gpu_need_a_number():
    with pytest.raises(SystemExit, match=r"this machine has 2: add `--resources gpu=2`\."):
        require_gpu_count(workflow(1, 0, 1))


@pytest.mark.parametrize(
    "run",
    [
        workflow(1, 1, global_resources={"gpu": 2}),
        workflow(1, 1, cores=1),
        workflow(1, 1, touch=True),
        workflow(1, 1, local_exec=False),
        workflow(1, 0, 0),
        workflow(),
    ],
)
def test_others_do_not(run):
    require_gpu_count(run)


def test_nor_does_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    require_gpu_count(workflow(1, 1))

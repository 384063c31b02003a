"""Model runs on one machine with GPUs, pretended by a stand-in for nvidia-smi."""

import pytest
from programs import write_program

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

STUDY = """
study: gpus
data: {folder: data/gpus}
models:
  one: {family: llava, checkpoint: "zoo:llava", device: auto}
"""
ANSWERS = "results/gpus/one/answers/000.parquet"
BLIND = "results/gpus/one/blind/answers/000.parquet"


@pytest.fixture
def run(checkout, request):
    """Run two stages of a model that asks for a GPU, on a machine that shows some."""
    (checkout.folder / "config" / "gpus.yaml").write_text(STUDY)
    program = write_program(checkout.folder / "bin" / "nvidia-smi", "echo 0; echo 1")
    targets = (ANSWERS, BLIND)

    def command(*arguments):
        return checkout.run(*targets, "--configfile", "config/gpus.yaml", *arguments)

    yield command
    program.unlink()


def test_model_runs_side_by_side_need_a_number_of_gpus(checkout, run):
    more = ("--set-resources", "extract:gpu=1", "blind:gpu=1")
    refused = run("--cores", "4", *more)
    assert refused.status != 0
    assert "this machine has 2: add `--resources gpu=2`. Nothing was changed." in refused.output
    assert "Traceback" not in refused.output
    assert not (checkout.folder / "results" / "gpus").exists()

    assert run("--cores", "4", "-n", *more).status == 0
    for enough in (("--resources", "gpu=2"), ()):  # at last nothing is left to run
        done = run("--cores", "4", *enough, *more)
        assert done.status == 0, done.output

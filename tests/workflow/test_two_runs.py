"""Two runs at once on one results folder: the second is refused, the first is not disturbed."""

import os
import subprocess
import time

import pytest
from study_copy import BIN, StudyCopy

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

STUDY = """
study: shared
results: {results}
data:
  origin: scenes
  folder: {data}
  scenes: {{namespace: shared, n_pope_images: 4, n_vqa_images: 4}}
sample:
  splits: [{{dataset: pope, split: random, task: existence, count: 8}}]
models:
  llava: {{family: llava, checkpoint: "zoo:llava", device: cpu}}
extract: {{batch_size: 2}}
"""
TARGET = "{results}/shared/llava/answers/000.parquet"
COMMAND = ("--cores", "1", "--configfile", "config/shared.yaml")


def copy_in(folder, place):
    folder.mkdir()
    copy = StudyCopy(folder)
    text = STUDY.format(results=place / "results", data=place / "data")
    (folder / "config" / "shared.yaml").write_text(text)
    return copy


@pytest.mark.parametrize("where", ["the same folder", "another folder"])
def test_the_second_is_refused_and_the_first_goes_on(tmp_path, where):
    first = copy_in(tmp_path / "first", tmp_path)
    second = first if where == "the same folder" else copy_in(tmp_path / "second", tmp_path)
    target = TARGET.format(results=tmp_path / "results")
    busy = tmp_path / "busy"
    busy.touch()
    process = first.start(target, *COMMAND, VRP_WAIT_WHILE=str(busy))
    try:
        assert first.wait_for(lambda: len(first.events("batch")) > 0, 300, process), first.log()
        results = tmp_path / "results" / "shared"
        before = {path: path.read_bytes() for path in results.rglob("*.batch")}

        refused = subprocess.run(
            [BIN / "snakemake", target, *COMMAND, "--forcerun", "extract"],
            cwd=second.folder, env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

        assert process.poll() is None
        output = refused.stdout + refused.stderr
        assert refused.returncode != 0, output
        assert "Traceback" not in output
        if second is first:
            assert "Directory cannot be locked" in output
        else:
            assert f"{results}: another run works here (process {process.pid} on " in output
        assert before.items() <= {path: path.read_bytes() for path in before}.items()
        busy.unlink()
        assert process.wait(300) == 0, first.log()
    finally:
        busy.unlink(missing_ok=True)
        process.terminate()
    assert first.computed_again() == 0
    # Nothing is left that would stop a third one.
    time.sleep(0.1)
    assert second.run(target, *COMMAND).status == 0
    assert first.computed_again() == 0

"""The README's path from a folder of images to answers runs as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from documents import ROOT, blocks
from study_copy import StudyCopy

from vrp.data.scenes.official import write_scene_dataset

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

BIN = Path(sys.executable).parent


def test_the_readmes_lines_give_answers(tmp_path):
    [block] = [b for b in blocks("console", pages=[ROOT / "README.md"]) if "ln -s" in b.code]
    script = re.sub(r"^\$ ", "", block.code, flags=re.MULTILINE)
    copy = StudyCopy(tmp_path / "copy", program=BIN / "vrp", warm=True)
    write_scene_dataset(tmp_path / "scenes", namespace="own", n_pope_images=60, n_vqa_images=1)
    (tmp_path / "photos").symlink_to(next((tmp_path / "scenes").glob("val*")))
    environment = {
        **os.environ, "HOME": str(tmp_path),
        "PATH": f"{copy.folder / 'bin'}:{BIN}:{os.environ['PATH']}",
    }  # fmt: skip

    def run(text):
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=copy.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    said = run(script)
    results = copy.folder / "results" / "mine"
    assert "Report: results/mine/report.html" in said
    assert len(pl.read_parquet(results / "mine" / "answers" / "*.parquet")) == 60
    assert (
        pl.read_parquet(results / "mine" / "signals.parquet")["token_confidence"].is_finite().all()
    )

    questions = copy.folder / "data" / "mine" / "questions.jsonl"
    questions.write_text(questions.read_text().replace("null", '["yes"]'))
    last = script.strip().splitlines()[-1]
    assert re.search(r"\bsample\b", run(f"{last} -n"))

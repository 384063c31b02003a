"""The whole small study, its model and data fetched from a hub that is then switched off."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_stand_in import HubStandIn
from published_sets import publish_pope, publish_vqa
from stage_jobs import run_job
from study_copy import StudyCopy, in_one_shard, without_boxes

from vrp.config.data import DataConfig, ScenesConfig
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.seal import read_provenance
from vrp.zoo import zoo_checkpoint

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FAMILY = "qwen2_vl"  # one: what a hub changes is the same for all

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def command(folder: Path, hub: HubStandIn, *words: str, **environment: str) -> str:
    """Run a command as a user would, with the hub's address in the environment."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if name == "HF_HOME" or not name.startswith("HF_")
            },
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HF_ENDPOINT": hub.url,
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def write_config(folder: Path, hub: HubStandIn) -> Path:
    """config/ci.yaml with one model and the same scenes from the hub; publishes them."""
    study = yaml.safe_load((ROOT / "config" / "ci.yaml").read_text())
    study = without_boxes(in_one_shard(study))
    scenes = study["data"].pop("scenes")
    drawn = DataConfig(folder=str(folder / "drawn"), scenes=ScenesConfig(**scenes))
    run_job("fetch_data", {"data": folder / "drawn.json"}, data=drawn)
    pope = hub.add("datasets", "lab/pope", publish_pope(folder / "drawn"))
    vqa = hub.add("datasets", "lab/vqa", publish_vqa(folder / "drawn"))
    shutil.rmtree(folder / "drawn")
    study["data"] |= {
        "origin": "hub",
        "hub": {
            "pope": {"repository": "lab/pope", "revision": pope},
            "vqa": {"repository": "lab/vqa", "revision": vqa, "split": "validation"},
        },
    }
    study["models"] = {
        FAMILY: {
            "family": FAMILY,
            "checkpoint": f"lab/{FAMILY}",
            "revision": hub.add("models", f"lab/{FAMILY}", zoo_checkpoint(FAMILY)),
            "device": "cpu",
        }
    }
    path = folder / "config" / "hub.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture(scope="module")
def hub():
    stand_in = HubStandIn()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def folder(hub: HubStandIn, tmp_path_factory) -> Path:
    """Where the study ran: fetched with `vrp fetch`, then run without a hub."""
    copy = StudyCopy(tmp_path_factory.mktemp("hub-study") / "copy", warm=True)
    folder = copy.folder
    write_config(folder, hub)
    hub.cut("model.safetensors", after=1_000_000)
    hub.cut("validation-00001-of-00003.parquet", after=200_000)
    output = command(folder, hub, "vrp", "fetch", "--config", "config/hub.yaml")
    assert len(re.findall("cut .* resuming at byte", output)) == 2
    with hub.counting() as requests:
        command(folder, hub, "vrp", "fetch", "--config", "config/hub.yaml")
    # The data sets are pinned and there; the hub's library asks once which programs exist.
    asked = [r.path for r in requests if r.path != "/api/agent-harnesses"]
    assert {path.split("/")[2] for path in asked} == {"models"}
    assert {path.split("/")[5] for path in asked} == {"revision", "tree"}
    hub.stop()
    with hub.counting() as requests:
        ended = copy.run(
            "--cores", "2", "--configfile", "config/hub.yaml",
            HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1",
        )  # fmt: skip
        assert ended.status == 0, ended.output[-5000:]
    assert requests == []
    return folder


def test_the_study_runs_to_its_report(folder: Path):
    results = folder / "results" / "ci"
    assert (results / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert json.loads((results / "summary.json").read_text())
    items = read_table(results / "items.parquet", ITEMS)
    counts = dict(items["task"].value_counts().iter_rows())
    assert counts == {"existence": 20, "counting": 15, "spatial": 15, "open": 10}


def test_every_table_names_the_commit(folder: Path):
    models = yaml.safe_load((folder / "config" / "hub.yaml").read_text())["models"]
    for name, model in models.items():
        tables = list((folder / "results" / "ci" / name).rglob("*.parquet"))
        assert tables
        assert {read_provenance(table)["revision"] for table in tables} == {model["revision"]}

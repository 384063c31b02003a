"""`vrp fetch`: everything that a study needs, and an account of what could not be had."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_stand_in import HubStandIn
from safetensors.numpy import save

from vrp.cli import main

CHECKPOINT = {"config.json": b"{}", "model.safetensors": save({"w": np.zeros(3)})}


def study(tmp_path: Path, **revisions: str) -> Path:
    """A study of scenes and of hub checkpoints: name → revision."""
    path = tmp_path / "study.yaml"
    models = {
        name: {"family": "llava", "checkpoint": f"lab/{name}", "revision": revision}
        for name, revision in revisions.items()
    }
    scenes = {"namespace": "ci", "n_pope_images": 2, "n_vqa_images": 2}
    data = {"folder": str(tmp_path / "data"), "scenes": scenes}
    path.write_text(yaml.safe_dump({"study": "s", "data": data, "models": models}))
    return path


@pytest.fixture
def commit(hub: HubStandIn, cache: Path) -> str:
    """The commit of `lab/open`; `lab/gated` has the same files."""
    hub.add("models", "lab/gated", CHECKPOINT, gated=True)
    return hub.add("models", "lab/open", CHECKPOINT)


def test_data_and_models_are_fetched(hub, commit, cache, tmp_path):
    main(["fetch", "--config", str(study(tmp_path, open=commit))])
    assert len(list((tmp_path / "data" / "val2014").iterdir())) == 2
    assert list(cache.glob(f"*/snapshots/{commit}/model.safetensors"))


def test_what_cannot_be_had_keeps_nothing_else_from_being_fetched(
    hub, commit, cache, tmp_path, capsys
):
    config = study(tmp_path, gated="main", none="main", open=commit)
    with pytest.raises(SystemExit) as caught:
        main(["fetch", "--config", str(config)])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum("lab/gated: its licence is not accepted" in line for line in lines) == 1
    assert sum("lab/none: it is neither a folder here" in line for line in lines) == 1
    assert lines[-1] == (
        "vrp fetch: 2 of 4 could not be fetched (gated, none); fix what the messages above report, "
        "and run it again"
    )
    assert list(cache.glob(f"*/snapshots/{commit}/model.safetensors"))

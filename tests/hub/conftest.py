"""A hub stand-in, with the hub's libraries turned to it and to an empty cache."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stand_in import HubStandIn


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    """A stand-in without repositories."""
    stand_in = HubStandIn()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def cache(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; inside this process the hub is the stand-in, and nothing waits."""
    import datasets.config
    from huggingface_hub import HfFileSystem, constants

    folder = tmp_path / "cache"
    addresses = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", addresses)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    # Read from the environment when the library was first imported, by whichever test that was.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    HfFileSystem.clear_instance_cache()
    return folder

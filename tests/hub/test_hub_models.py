"""Checkpoints from the hub: fetched once, resumed, checked, and every refusal in one line."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hub_stand_in import ACCEPTED_TOKEN, HubStandIn
from safetensors.numpy import save
from stage_jobs import run_job

from vrp.config.models import ModelConfig
from vrp.errors import InputError
from vrp.hub import cached_checksum, list_files
from vrp.hub_errors import Repository
from vrp.running.model_manifest import read_manifest

NAME = "some-lab/tiny-vlm"
WEIGHTS = save({"w": np.arange(100_000, dtype=np.float32)})
"""400 kB: several blocks of a download."""
LOADED = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": WEIGHTS,
}
NOT_LOADED = {
    "README.md": b"# A model",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"print('code')",
    "consolidated.safetensors": save({"w": np.zeros(3)}),
    "onnx/config.json": b"{}",
    "onnx/model.safetensors": save({"w": np.zeros(3)}),
}


@pytest.fixture(autouse=True)
def any_weights(monkeypatch):
    """These files are no model: what they hold is not compared with one."""
    monkeypatch.setattr("vrp.stages.fetch_model._unread_weights", lambda model, folder: [])


@pytest.fixture
def commit(hub: HubStandIn, cache: Path) -> str:
    """The commit of a checkpoint on the hub."""
    return hub.add("models", NAME, {**LOADED, **NOT_LOADED})


def model(revision: str | None, name: str = NAME) -> ModelConfig:
    return ModelConfig(family="llava", checkpoint=name, revision=revision)


def fetch(revision: str | None, tmp_path: Path, name: str = NAME) -> dict:
    output = tmp_path / "model.json"
    run_job("fetch_model", {"manifest": output}, model=model(revision, name))
    return json.loads(output.read_text())


def snapshot(cache: Path, commit: str) -> Path:
    return cache / "models--some-lab--tiny-vlm" / "snapshots" / commit


def test_the_files_that_are_loaded_are_fetched_and_no_others(hub, cache, commit, tmp_path):
    manifest = fetch(commit, tmp_path)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in LOADED.items()}
    assert manifest["files"] == digests
    assert manifest["revision"] == commit
    folder = snapshot(cache, commit)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == LOADED
    got = {r.path.rpartition("/")[2] for r in hub.asked("GET") if "/resolve/" in r.path}
    assert got == set(LOADED)
    assert read_manifest(tmp_path / "model.json", model(commit)).identity == commit
    # What cut downloads left would be *.part.
    assert not list(cache.rglob("*.part"))


def test_the_hubs_own_library_finds_it_offline(hub, cache, commit, tmp_path):
    from huggingface_hub import snapshot_download

    fetch(commit, tmp_path)
    hub.stop()
    folder = snapshot_download(
        NAME, revision=commit, local_files_only=True, allow_patterns=list(LOADED)
    )
    assert Path(folder) == snapshot(cache, commit)


def test_a_second_fetch_asks_only_whether_the_revision_is_there(hub, commit, tmp_path):
    first = fetch(commit, tmp_path)
    with hub.counting() as requests:
        assert fetch(commit, tmp_path) == first
    api = f"/api/models/{NAME}"
    assert [(r.method, r.path) for r in requests] == [
        ("GET", f"{api}/revision/{commit}"),
        ("GET", f"{api}/tree/{commit}"),
    ]


def test_another_revision_fetches_what_differs(hub, cache, commit, tmp_path):
    fetch(commit, tmp_path)
    other = hub.add("models", NAME, {**LOADED, "config.json": b'{"a": 1}'}, revision="v2")
    with hub.counting() as requests:
        assert fetch(other, tmp_path)["revision"] == other
    got = {
        r.path.rpartition("/")[2] for r in requests if r.method == "GET" and "/resolve/" in r.path
    }
    assert got == {"config.json"}
    assert (snapshot(cache, commit) / "config.json").read_bytes() == b"{}"
    assert (snapshot(cache, other) / "config.json").read_bytes() == b'{"a": 1}'


def test_a_tag_is_followed_and_the_commit_recorded(hub, commit, tmp_path):
    hub.add("models", NAME, LOADED, revision="v1.0")
    tagged = hub.repositories["models", NAME].names["v1.0"]
    assert fetch("v1.0", tmp_path)["revision"] == tagged
    hub.stop()
    assert fetch("v1.0", tmp_path)["revision"] == tagged


def test_without_a_revision_the_commit_to_pin_is_named(hub, commit, tmp_path, caplog):
    assert fetch(None, tmp_path)["revision"] == commit
    assert f"write `revision: {commit}` into the config" in caplog.text


def test_a_cut_connection_is_resumed(hub, cache, commit, tmp_path):
    hub.cut("model.safetensors", after=200_000)
    fetch(commit, tmp_path)
    ranges = [r.range for r in hub.asked("GET", "model.safetensors") if "/content/" in r.path]
    assert ranges == [None, f"bytes={3 * 65536}-"]
    assert (snapshot(cache, commit) / "model.safetensors").read_bytes() == WEIGHTS


def test_what_was_given_up_is_resumed_by_the_next_fetch(hub, cache, commit, tmp_path):
    hub.cut("model.safetensors", after=100, times=50)
    part = cache / "models--some-lab--tiny-vlm" / "blobs"
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    part.mkdir(parents=True)
    (part / f"{sha256}.part").write_bytes(WEIGHTS[:131072])
    with pytest.raises(InputError, match=r"model\.safetensors: download stopped.*again to go on"):
        fetch(commit, tmp_path)
    assert (part / f"{sha256}.part").read_bytes() == WEIGHTS[:131072]
    assert not (tmp_path / "model.json").exists()
    hub.mend()
    with hub.counting() as requests:
        fetch(commit, tmp_path)
    ranges = [r.range for r in requests if "/content/" in r.path]
    assert ranges == ["bytes=131072-"]
    # The small files were there.
    assert not [r for r in requests if r.path.endswith("json") and r.method == "GET"]


def test_a_corrupted_file_is_detected_and_not_kept(hub, cache, commit, tmp_path):
    hub.corrupt("model.safetensors", times=2)
    with pytest.raises(InputError, match=f"{NAME}/model.safetensors: arrived damaged twice"):
        fetch(commit, tmp_path)
    assert not (tmp_path / "model.json").exists()
    assert not list(cache.rglob("model.safetensors"))
    fetch(commit, tmp_path)
    assert (snapshot(cache, commit) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_corrupted_small_file_is_detected_too(hub, commit, tmp_path):
    hub.corrupt("tokenizer.json", times=2)
    with pytest.raises(InputError, match=r"tokenizer.json: arrived damaged twice \(git "):
        fetch(commit, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damage_in_the_cache_is_mended(name, hub, cache, commit, tmp_path, caplog):
    first = fetch(commit, tmp_path)
    path = snapshot(cache, commit) / name
    assert cached_checksum(path) is not None
    content = path.resolve()
    content.write_bytes(content.read_bytes()[:-1])
    hub.stop()
    with pytest.raises(
        InputError, match=f"{name} is damaged in the cache.*on a machine with a netw"
    ):
        fetch(commit, tmp_path)
    hub.start()
    assert fetch(commit, tmp_path) == first
    assert f"{name}: is damaged in the cache; fetching it again" in caplog.text
    assert path.read_bytes() == LOADED[name]


def sharded(**changes: bytes) -> dict[str, bytes]:
    """A checkpoint in two shards, and a third file of weights that nobody loads."""
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    return {
        "config.json": b"{}",
        "model-00001-of-00002.safetensors": save({"a": np.zeros(5)}),
        "model-00002-of-00002.safetensors": save({"b": np.ones(5)}),
        "other.safetensors": save({"c": np.ones(5)}),
        "model.safetensors.index.json": json.dumps(
            {"metadata": {}, "weight_map": weights}
        ).encode(),
        **changes,
    }


def test_of_shards_those_that_the_index_names_are_fetched(hub, cache, tmp_path):
    commit = hub.add("models", NAME, sharded())
    assert set(fetch(commit, tmp_path)["files"]) == set(sharded()) - {"other.safetensors"}
    assert not (snapshot(cache, commit) / "other.safetensors").exists()


def test_a_damaged_index_in_the_cache_is_mended(hub, cache, tmp_path):
    commit = hub.add("models", NAME, sharded())
    first = fetch(commit, tmp_path)
    (snapshot(cache, commit) / "model.safetensors.index.json").resolve().write_bytes(b"{")
    assert fetch(commit, tmp_path) == first


def test_a_shard_that_was_published_truncated_is_one_line(hub, cache, tmp_path):
    whole = sharded()["model-00002-of-00002.safetensors"]
    files = sharded(**{"model-00002-of-00002.safetensors": whole[:-8]})
    commit = hub.add("models", NAME, files)
    refused(commit, tmp_path, "model-00002-of-00002.safetensors is cut short or damaged")


def test_a_shard_that_is_missing_is_one_line(hub, cache, tmp_path):
    files = sharded()
    del files["model-00001-of-00002.safetensors"]
    commit = hub.add("models", NAME, files)
    refused(commit, tmp_path, "model-00001-of-00002.safetensors, a part of the weights")


def refused(revision: str | None, tmp_path: Path, words: str, name: str = NAME) -> None:
    """The fetch must fail in one line that holds the words, and write nothing."""
    with pytest.raises(InputError) as caught:
        fetch(revision, tmp_path, name)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"checkpoint {name}: ")
    assert "\n" not in message
    assert not (tmp_path / "model.json").exists()


def test_pickles_are_refused(hub, cache, tmp_path):
    commit = hub.add("models", NAME, {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    refused(commit, tmp_path, "pickles only (pytorch_model.bin)")
    assert hub.asked("GET", "pytorch_model.bin") == []


def test_a_repository_without_a_checkpoint_is_refused(hub, cache, tmp_path):
    refused(hub.add("models", NAME, {"README.md": b"#"}), tmp_path, "has no config.json")
    refused(hub.add("models", NAME, {"config.json": b"{}"}), tmp_path, "has no model.safetensors")


def test_the_gate_is_explained_and_opens(hub, cache, tmp_path, monkeypatch):
    commit = hub.add("models", NAME, LOADED, gated=True)
    gate = f"its licence is not accepted; accept it at {hub.url}/{NAME} with your account, then"
    refused(commit, tmp_path, gate)
    monkeypatch.setenv("HF_TOKEN", "hf_of_another_account")
    refused(commit, tmp_path, gate)
    # Nothing but what the hub shows to everyone has been fetched.
    assert not list(cache.rglob("*.safetensors"))
    monkeypatch.setenv("HF_TOKEN", ACCEPTED_TOKEN)
    assert fetch(commit, tmp_path)["revision"] == commit
    # The token is for the hub, not for the host that serves large files.
    assert {r.authorised for r in hub.requests if "/content/" in r.path} == {False}


@pytest.mark.parametrize("revision", ["f" * 40, "no-such-branch"])
def test_a_missing_revision_is_one_line(revision, hub, commit, tmp_path):
    refused(revision, tmp_path, f"revision '{revision}' does not exist; take a commit from")


@pytest.mark.parametrize("name", ["some-lab/of-another-name", "nobody/nothing"])
def test_an_unknown_repository_is_one_line(name, hub, commit, tmp_path):
    refused("main", tmp_path, "neither a folder here nor a model on the hub; check its name", name)


def test_a_full_cache_needs_no_hub(hub, commit, tmp_path, caplog):
    first = fetch(commit, tmp_path)
    hub.stop()
    assert fetch(commit, tmp_path) == first
    assert "the hub cannot be reached; the cache is complete" in caplog.text


def test_going_online_can_be_switched_off(hub, commit, tmp_path, monkeypatch):
    from huggingface_hub import constants

    first = fetch(commit, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub.counting() as requests:
        assert fetch(commit, tmp_path) == first
    assert requests == []


def test_an_empty_cache_without_a_hub_is_one_line(hub, commit, tmp_path):
    hub.stop()
    refused(commit, tmp_path, "it is not in the cache and the hub cannot be reached")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_cache_that_lacks_a_file_is_not_taken_for_whole(name, hub, cache, commit, tmp_path):
    fetch(commit, tmp_path)
    (tmp_path / "model.json").unlink()
    (snapshot(cache, commit) / name).unlink()
    hub.stop()
    refused(commit, tmp_path, "it is not in the cache and the hub cannot be reached")


def test_a_listing_tells_sizes_and_checksums(hub, commit):
    listing = list_files(Repository("model", NAME, "main"))
    assert listing.commit == commit
    weights = listing.files["model.safetensors"]
    assert weights.size == len(WEIGHTS)
    assert weights.checksum == ("sha256", hashlib.sha256(WEIGHTS).hexdigest())
    # `printf '{}' | git hash-object --stdin`
    assert listing.files["config.json"].checksum == (
        "git", "9e26dfeeb6e641a33dae4961196235bdb965b21b",
    )  # fmt: skip
